# ImageNet-1k as class folders: data/imagenet/{train,val}/<class>/*.JPEG. Crops of 224 px; evaluation resizes to 256 and cuts 224.
# The last 10,009 training images of the BYOL paper (D.1) were held out for choices; here as many, balanced over classes. They
# are pretrained on without their labels, as the official code does, so that K = epochs * 1281167 // batch_size is the paper's.
data = dict(
    train=dict(type='ImageFolder', root='data/imagenet/train'),
    val=10009,
    train_on_val=True,
    test=dict(type='ImageFolder', root='data/imagenet/val'),
    expected_images=1281167,
)
online_eval = dict(
    every=10, bank=50000
)  # k-NN against 50,000 training images, 50 per class: minutes, and lower than against all
checkpoint = dict(every=5, keep=3)
