"""Fixture: the folder of a study, as tools/study.py leaves it, with figures that a test chooses."""

import json

import pytest

FIGURES = {
    ('BYOL', 0): 90.0,
    ('BYOL', 1): 92.0,
    ('BYOL', 2): 91.0,
    ('A & <b>', 0): 93.5,
    ('A & <b>', 1): 94.0,
    ('A & <b>', 2): 95.0,
    ('MoCo|v2', 0): 89.0,
    ('MoCo|v2', 2): 90.5,
}


@pytest.fixture
def study_folder(tmp_path):
    """Function: write study.json and records; {(method, seed): k-NN} or {(method, seed, label): k-NN}; linear is k-NN + 1."""

    def make(
        figures=FIGURES, labels=(), trials=(), random_weights=True, failed=(), log=True, **plan
    ):
        out = tmp_path / 'study'
        write = dict(
            name='toy',
            title='Toy <study>',
            question='Which & why?',
            caveats=['Little <data>.'],
            reference='BYOL',
            methods={
                m: dict(config=f'configs/{m}.py', options=['epochs=2'])
                for m in dict.fromkeys(key[0] for key in figures)
            },
            axes={'batch size': list(labels)} if labels else {},
            seeds=sorted({key[1] for key in figures}),
            recipe=['epochs=2'],
            tune=dict(key='base_lr', factors=[0.5, 1, 2], seed=0, options=[]) if trials else None,
            metrics=[
                dict(key='knn', name='k-NN', protocol='k=20'),
                dict(key='linear', name='linear', protocol='L-BFGS'),
            ],
            command='python tools/study.py toy',
            versions=dict(torch='2'),
            machine='2 cores',
        )
        save(out / 'study.json', {**write, **plan})
        for i, ((method, seed, *label), knn) in enumerate(figures.items()):
            run = dict(
                kind='run',
                method=method,
                axes={'batch size': label[0]} if label else {},
                seed=seed,
                status='done',
                error=None,
                figures=dict(knn=knn, linear=knn + 1),
                n_test=360,
                test_manifest='abc',
                lr=dict(key='base_lr', value=8.0),
                cost=dict(
                    epochs=2,
                    train_seconds=60.0 + i,
                    images_per_second=500.0,
                    peak_memory_bytes=2**29,
                    memory_of='process',
                    device='cpu, 1 threads',
                    device_hours=(60 + i) / 3600,
                    parameters=1.2e6,
                ),
                checkpoint='checkpoints/step_00000010.pth',
                config=dict(method=dict(type=method), seed=seed, epochs=2),
            )
            folder = (
                out
                / 'runs'
                / f'arm_{list(write["methods"]).index(method)}{"".join(label)}'
                / f'seed_{seed}'
            )
            save(folder / 'record.json', run)
            if log:
                rows = [
                    {
                        'step': s,
                        'epoch': s / 5,
                        'train/loss': 4 - s / 10,
                        'train/lr': 1.0,
                        'val/knn': 50 + s,
                        'val/rankme': 9.0,
                    }
                    for s in range(0, 11, 2)
                ]
                (folder / 'log.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
        for method, seed, error in failed:
            save(
                out / 'runs' / f'failed_{method}' / f'seed_{seed}' / 'record.json',
                dict(kind='run', method=method, axes={}, seed=seed, status='failed', error=error),
            )
        for n, (method, factor, value) in enumerate(trials):
            save(
                out / 'trials' / method / str(n) / 'record.json',
                dict(
                    kind='trial',
                    method=method,
                    key='base_lr',
                    factor=factor,
                    value=8.0 * factor,
                    n_val=180,
                    **(
                        dict(status='failed', error='the loss is nan')
                        if value is None
                        else dict(status='done', val_knn=value)
                    ),
                ),
            )
        if random_weights:
            save(
                out / 'runs/random_weights/seed_0/record.json',
                dict(
                    kind='baseline',
                    method='random weights',
                    axes={},
                    seed=0,
                    status='done',
                    figures=dict(knn=70.0, linear=71.0),
                ),
            )
        return out

    return make


def save(path, record):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
