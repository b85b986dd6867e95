# ImageNet-1k as class folders: data/imagenet/{train,val}/<class>/*.JPEG. Views are crops of 224 px;
# evaluation resizes to 256 px and takes the centre 224 px.
# The BYOL paper (D.1) held out the last 10,009 training images to choose hyper-parameters. Here the
# labels of 10,009 images, balanced over classes, are held out. Pretraining uses these images
# without their labels, as the official code does, so that the number of steps
# K = epochs * 1281167 // batch_size is the paper's.
data = dict(
    train=dict(type='ImageFolder', root='data/imagenet/train'),
    val=10009,
    train_on_val=True,
    test=dict(type='ImageFolder', root='data/imagenet/val'),
    expected_images=1281167,
)
# k-NN against 50,000 training images, 50 per class, takes minutes. The accuracy is lower than
# with all training images.
online_eval = dict(every=10, bank=50000)
checkpoint = dict(every=5, keep=3)
