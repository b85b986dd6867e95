"""The plan says when bf16 is emulated."""

import pytest
import torch

from ssl_zoo.engine.precision import describe_precision


@pytest.mark.parametrize(
    ('capabilities', 'warned'),
    [
        (dict(architecture='x86_64', avx2=True, avx512_bf16=False), True),
        (dict(architecture='x86_64', avx2=True, avx512_bf16=True), False),
        (dict(architecture='arm64', neon=True, bf16=True), False),
    ],
)
def test_a_cpu_without_bf16_is_warned_of(tiny, monkeypatch, capabilities, warned):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: capabilities, raising=False)
    lines = describe_precision(tiny(precision='bf16'))
    assert lines[0] == 'bf16'
    assert [line for line in lines[1:] if 'this CPU has no instructions for bf16' in line] == lines[
        1:
    ]
    assert len(lines) == 1 + warned
    assert describe_precision(tiny(precision='float32', channels_last=True)) == [
        'float32, channels_last'
    ]


def test_an_old_gpu_is_warned_of(tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(
        torch.cuda, 'is_bf16_supported', lambda including_emulation: including_emulation
    )
    assert 'this GPU has no instructions' in describe_precision(tiny(precision='bf16'))[1]


def test_without_the_query_nothing_is_said(tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
    assert describe_precision(tiny(precision='bf16')) == ['bf16']
