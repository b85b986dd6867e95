# Imagenette, ten classes of ImageNet-1k chosen by fast.ai (github.com/fastai/imagenette), as class
# folders: data/imagenette2-160/{train,val}/<class>/*.JPEG, 9,469 and 3,925 photographs. In this
# version, which the sources of the recipes use, the short side has 160 px:
#   curl https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz | tar xz -C data
# imagenette2-320.tgz has 320 px. These options read the photographs from elsewhere:
#   data.train.root=/my/imagenette/train data.test.root=/my/imagenette/val
# Published figures are of the photographs in val, so these are the test images here. The labels of
# 1,000 training images are held out to choose hyper-parameters. Pretraining uses these images
# without their labels, so that the number of steps K = epochs * 9469 // batch_size is the sources'.
data = dict(
    train=dict(type='ImageFolder', root='data/imagenette2-160/train'),
    val=1000,
    train_on_val=True,
    test=dict(type='ImageFolder', root='data/imagenette2-160/val'),
    expected_images=9469,
    # Evaluation as lightly's: short side 128 px, centre 128 px (bicubic here, bilinear there). The
    # authors of BYOL keep the centre 4/5 of the short side, which is eval_resize=160.
    eval_resize=128,
)
online_eval = dict(every=10)
checkpoint = dict(every=10, keep=2)
