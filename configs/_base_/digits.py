# scikit-learn's handwritten digits, which need no download: 1257 training, 180 val and 360 test
# images of 8 px, upscaled to 32.
data = dict(
    train=dict(type='Digits', split='train'),
    val=dict(type='Digits', split='val'),
    test=dict(type='Digits', split='test'),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
