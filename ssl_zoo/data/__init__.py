"""Images on disk to augmented views on the device.

From image bytes to the loss there are four steps:

1. **Sample** (host, per image), `views.sample`: draw the parameters of every view of an image from
   a counter-based generator (`random.uniform`) keyed by the run's seed; the counter is (image
   index, epoch, view number). The same image at the same epoch gets the same views for any number
   of workers and processes, and after a resume.
2. **Crop** (host, per image), `decode.read_pixels`, then `crop.crop`: decode the image once; for
   each view crop, resize with antialiasing, write uint8 (3, size, size). With `data.on_device=True`
   the images are held on the device and cropped there in batches: `on_device.DeviceDataset`,
   `crop.crop_batch`.
3. **Photometric** (device, batched), `photometric.Photometric`: flip, jitter, grayscale, blur,
   solarize, normalise, with the parameters of each image. It is the data preprocessor of every
   method.
4. **Loss** (device): `ssl_zoo.method.Method.loss(views)`.

`sources` holds the types of data source (SOURCES in the registry): each knows its images, labels
and the order of an epoch. `view_dataset.ViewDataset` does steps 1 and 2 for a batch,
`loader.train_loader` runs it in workers, in the order of `stream_sampler.StreamSampler`, and
`resilient_loader.ResilientLoader` replaces workers that die. `splits` and `label_lists` cut
hold-outs and labelled subsets from a source.
"""
