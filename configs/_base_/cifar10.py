# CIFAR-10 through torchvision, in data/cifar10. These options download it:
#   data.train.download=True data.test.download=True
# These read it from image folders:
#   data.train="{'type': 'ImageFolder', 'root': 'data/cifar10/train'}"
#   data.test="{'type': 'ImageFolder', 'root': 'data/cifar10/test'}"
# The labels of 5,000 training images are held out to choose hyper-parameters. Pretraining
# uses these images without their labels, as in published tables.
data = dict(
    train=dict(type='CIFAR10', root='data/cifar10'),
    val=5000,
    train_on_val=True,
    test=dict(type='CIFAR10', root='data/cifar10', split='test'),
    expected_images=50000,
    on_device=True,  # 150 MB; views are made on the device, in batches, without workers
    # Mean and standard deviation of the training set (solo-learn's constants).
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
online_eval = dict(every=10)
checkpoint = dict(every=10, keep=2)
