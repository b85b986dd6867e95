"""One HTML page that needs nothing beside it: its frame and style, pictures as data, lists. All text that comes from outside is escaped."""

import base64
import html
import io
from pathlib import Path

KINDS = {'.png': 'image/png', '.svg': 'image/svg+xml', '.jpg': 'image/jpeg'}

FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --back: #fff; --text: #1b1b1b; --faint: #5a5a5a; --line: #d5d5d5; --box: #f4f5f7; --mark: #b34700; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --back: #16181b; --text: #e6e6e6; --faint: #a8adb3; --line: #3b4046; --box: #202429; --mark: #ffa45c; }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 1rem; max-width: 1340px; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; overflow-wrap: break-word; }}
h1 {{ font-size: 1.7rem; line-height: 1.25; margin: .5rem 0; }}
h2 {{ font-size: 1.3rem; margin: 2.2rem 0 .5rem; padding-top: .5rem; border-top: 1px solid var(--line); }}
h3 {{ font-size: 1.05rem; margin: 1.3rem 0 .4rem; }}
p, ul {{ max-width: 75ch; margin: .4rem 0; }}
nav a {{ margin-right: 1rem; white-space: nowrap; }}
a {{ color: inherit; }}
.note {{ color: var(--faint); font-size: .87rem; max-width: 105ch; }}
.box {{ background: var(--box); border-left: 4px solid var(--line); padding: .5rem .9rem; margin: .8rem 0; }}
.warn {{ border-left-color: var(--mark); }}
.grid {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); gap: 1rem; align-items: start; }}
figure {{ margin: 0; max-width: 480px; min-width: 0; }}
figure img {{ display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 4px; }}
figcaption {{ color: var(--faint); font-size: .87rem; padding: .3rem 0; }}
.scroll {{ overflow-x: auto; max-width: 100%; }}
table {{ border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }}
th, td {{ border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left; vertical-align: top; white-space: nowrap; }}
thead th {{ white-space: normal; vertical-align: bottom; }}
th[scope=row] {{ position: sticky; left: 0; background: var(--back); font-weight: 600; white-space: normal; min-width: 6rem; }}
pre {{ background: var(--box); padding: .6rem .8rem; overflow-x: auto; font-size: .82rem; max-height: 30rem; }}
td.long {{ white-space: normal; min-width: 20rem; max-width: 45rem; }}
details {{ margin: .5rem 0; }}
summary {{ cursor: pointer; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(title: str, body: str) -> str:
    return FRAME.format(title=html.escape(title), body=body)


def data_uri(content: bytes, kind: str) -> str:
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def figure(path: Path, alt: str, caption: str) -> str:
    """A picture file as data in the page, with its words for who cannot see it."""
    uri = data_uri(path.read_bytes(), KINDS[path.suffix])
    return f'<figure><img src="{uri}" alt="{html.escape(alt)}"><figcaption>{html.escape(caption)}</figcaption></figure>\n'


def grid(figures: list[str]) -> str:
    return f'<div class="grid">\n{"".join(figures)}</div>\n' if figures else ''


def paragraphs(text: str) -> str:
    return ''.join(f'<p>{html.escape(part)}</p>\n' for part in text.split('\n\n') if part.strip())


def bullets(items: list[str]) -> str:
    return '<ul>\n' + ''.join(f'<li>{html.escape(item)}</li>\n' for item in items) + '</ul>\n'


def preformatted(text: str) -> str:
    return f'<pre tabindex="0">{html.escape(text)}</pre>\n'


def details(summary: str, inside: str) -> str:
    return f'<details><summary>{html.escape(summary)}</summary>\n{inside}</details>\n'


def section(title: str, anchor: str, inside: str) -> str:
    return f'<h2 id="{anchor}">{html.escape(title)}</h2>\n{inside}'


def as_jpeg(path: Path, height: int, side: int = 840) -> bytes:
    """A picture small enough for a page: its uppermost ``height`` pixels, then at most ``side`` pixels wide, JPEG."""
    from PIL import Image

    with Image.open(path) as image:
        image = image.convert('RGB').crop((0, 0, image.width, min(height, image.height)))
        image.thumbnail((side, side))
        file = io.BytesIO()
        image.save(file, 'jpeg', quality=80)
    return file.getvalue()
