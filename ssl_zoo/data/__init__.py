"""From images on disk to augmented views on the device.

There are four steps from image bytes to the loss:

1. **Sample** (host, per image), `views.sample`: draw the parameters of every view of an image from
   a counter-based generator (`random.uniform`) keyed by the run's seed; the counter is (image
   index, epoch, view number). The same image at the same epoch gets the same views for any number
   of workers and processes, and after a resume.
2. **Crop** (host, per image), `decode.read_pixels`, then `crop.crop`: decode the image once; for
   each view crop, resize with antialiasing, write uint8 (3, size, size). With `data.on_device=True`
   the images are held on the device and cropped there in batches: `on_device.DeviceDataset`,
   `crop.crop_batch`.
3. **Photometric** (device, batched), `photometric.Photometric`: flip, jitter, grayscale, blur,
   solarize, normalise, with the parameters of each image. The class is the data preprocessor of
   every method.
4. **Loss** (device): `ssl_zoo.method.Method.loss(views)`.

`sources` holds the data sources (SOURCES in the registry); a source has images, labels, and an
order for each epoch. `view_dataset.ViewDataset` does steps 1 and 2 for a batch.
`loader.train_loader` runs the data set in workers, in the order of `stream_sampler.StreamSampler`.
`resilient_loader.ResilientLoader` replaces workers that die. `splits` cuts hold-outs from a source,
`label_lists` labelled subsets.
"""
