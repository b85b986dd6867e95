# CIFAR-10 through torchvision, in data/cifar10 (data.train.download=True data.test.download=True fetches it). As image folders:
#   data.train="{'type': 'ImageFolder', 'root': 'data/cifar10/train'}" data.test="{'type': 'ImageFolder', 'root': 'data/cifar10/test'}"
# 5,000 training images are held out for choices; they are pretrained on without their labels, as in published tables.
data = dict(
    train=dict(type='CIFAR10', root='data/cifar10'),
    val=5000,
    train_on_val=True,
    test=dict(type='CIFAR10', root='data/cifar10', split='test'),
    expected_images=50000,
    on_device=True,  # 150 MB; views are made there in batches, without workers
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)  # of the training set (solo-learn's constants)
online_eval = dict(every=10)
checkpoint = dict(every=10, keep=2)
