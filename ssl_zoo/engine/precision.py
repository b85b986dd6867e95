"""What the plan says about a run's precision."""

import torch

from ssl_zoo.config.settings import Settings

# Names of instruction sets with bfloat16 arithmetic, in torch.cpu.get_capabilities().
CPU_BF16 = ('avx512_bf16', 'amx_bf16', 'bf16', 'sve_bf16')


def describe_precision(settings: Settings) -> list[str]:
    """Return the lines of the plan: precision, memory format, and a warning if bf16 is emulated."""
    memory_format = ', channels_last' if settings.channels_last else ''
    lines = [settings.precision + memory_format]
    if settings.precision == 'bf16' and not has_bf16():
        kind = 'GPU' if torch.cuda.is_available() else 'CPU'
        lines.append(
            f'this {kind} has no instructions for bf16 and emulates it, which is several times '
            'slower than precision=float32'
        )
    return lines


def has_bf16() -> bool:
    """Return whether the device computes in bf16; True where torch does not tell."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    get_capabilities = getattr(torch.cpu, 'get_capabilities', None)  # torch 2.11 may lack it
    if get_capabilities is None:
        return True
    capabilities = get_capabilities()
    return any(capabilities.get(name, False) for name in CPU_BF16)
