"""Save views.png: the first images of the first batch beside their views."""

from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.hooks import Hook
from PIL import Image, ImageDraw

from ssl_zoo.data.sources import Source
from ssl_zoo.distributed import rank
from ssl_zoo.storage.atomic import atomic_write


class ViewsPictureHook(Hook):
    """Saves views.png: the first images of the first batch, each beside its views as the network sees them."""

    ROWS, SIDE, GAP, HEAD = 8, 112, 4, 16

    def __init__(self, source: Source):
        self.source, self.done = source, False

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.done or rank() > 0:
            return
        self.done = True
        first = {k: [v[: self.ROWS] for v in data_batch[k]] for k in ('views', 'params')} | dict(
            index=data_batch['index'][: self.ROWS]
        )
        with (
            torch.compiler.set_stance('force_eager') if runner.settings.compile else nullcontext()
        ):  # not once more for so few
            views = runner.method.data_preprocessor(first)['views']
        columns = [[self.source.read(i) for i in first['index'].tolist()]]
        for view in views:
            columns.append(
                [
                    Image.fromarray(p.permute(1, 2, 0).numpy())
                    for p in runner.method.data_preprocessor.pixels(view)
                ]
            )
        sheet = picture(columns, ['image', *(f'view {i + 1}' for i in range(len(views)))])
        try:
            atomic_write(
                Path(runner.work_dir, 'views.png'), lambda file: sheet.save(file, format='png')
            )
        except OSError as error:
            runner.logger.error(f'could not write views.png: {error}; training goes on')


def picture(
    columns: list[list[Image.Image]],
    titles: list[str],
    side: int = ViewsPictureHook.SIDE,
    gap: int = ViewsPictureHook.GAP,
    head: int = ViewsPictureHook.HEAD,
) -> Image.Image:
    """Columns of images under their titles, each image scaled to fit a square of ``side`` pixels."""
    sheet = Image.new(
        'RGB',
        (len(columns) * (side + gap) + gap, head + len(columns[0]) * (side + gap) + gap),
        'white',
    )
    draw = ImageDraw.Draw(sheet)
    for c, (column, title) in enumerate(zip(columns, titles, strict=True)):
        x = gap + c * (side + gap)
        draw.text((x + 2, 2), title, fill='black')
        for r, image in enumerate(column):
            scale = side / max(image.size)
            size = tuple(max(round(s * scale), 1) for s in image.size)
            image = image.resize(
                size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
            )
            sheet.paste(
                image,
                (x + (side - size[0]) // 2, head + gap + r * (side + gap) + (side - size[1]) // 2),
            )
    return sheet
