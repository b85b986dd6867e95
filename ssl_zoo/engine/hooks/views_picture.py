"""Hook that saves views.png, a picture of training images beside their views."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.hooks import Hook
from PIL import Image

from ssl_zoo.data.image_sheet import ImageSheet, SheetCell, SheetColumn
from ssl_zoo.data.sources import Source
from ssl_zoo.distributed import rank

if TYPE_CHECKING:
    from ssl_zoo.engine.trainer import Trainer

IMAGES = 8
SIDE = 112  # pixels of the longer side of each image in the picture


class ViewsPictureHook(Hook):
    """Save views.png before the first step: images of the batch beside their views.

    The views are shown as the network sees them, before normalisation.

    Args:
        source: the training images.

    Attributes:
        done: whether the picture was made.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.done = False

    def before_train_iter(
        self, runner: 'Trainer', batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Save the picture at the first step, on rank 0."""
        if self.done or rank() > 0:
            return
        self.done = True
        sheet = self._sheet(runner, data_batch)
        try:
            sheet.save_png(Path(runner.work_dir, 'views.png'))
        except OSError as error:
            runner.logger.error(f'could not write views.png: {error}; training goes on')
        runner.visualizer.add_image('views', np.asarray(sheet.draw()), runner.step)

    def _sheet(self, runner: 'Trainer', batch: dict) -> ImageSheet:
        indices = batch['index'][:IMAGES]
        first_images = {
            'views': [view[:IMAGES] for view in batch['views']],
            'params': [params[:IMAGES] for params in batch['params']],
            'index': indices,
        }
        preprocessor = runner.method.data_preprocessor
        # Without force_eager the preprocessor would be compiled again for this smaller batch.
        compiled = runner.settings.compile
        with torch.compiler.set_stance('force_eager') if compiled else nullcontext():
            views = preprocessor(first_images)['views']
        columns = [SheetColumn('image', SIDE)]
        columns += [SheetColumn(f'view {number}', SIDE) for number in range(1, len(views) + 1)]
        pixels = [preprocessor.denormalise(view) for view in views]
        rows = []
        for row, index in enumerate(indices.tolist()):
            cells = [SheetCell(self.source.read(index))]
            for view in pixels:
                image = Image.fromarray(view[row].permute(1, 2, 0).numpy())
                cells.append(SheetCell(image))
            rows.append(cells)
        return ImageSheet(columns, rows)
