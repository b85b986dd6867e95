"""tools/replay.py: what is refused."""

import torch


def test_what_is_no_dump_gets_a_sentence(tmp_path, run_tool, root):
    torch.save(dict(format='ssl_zoo checkpoint 3'), tmp_path / 'foreign.pth')
    done = run_tool(root / 'tools/replay.py', tmp_path / 'foreign.pth')
    assert (
        done.returncode == 2
        and 'not a replay file of ssl_zoo' in done.stderr
        and len(done.stderr.splitlines()) == 1
    )
