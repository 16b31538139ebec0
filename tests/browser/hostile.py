"""What a hostile model writes to run something in the page, or to make it ask another server."""

from __future__ import annotations

__all__ = ["HOSTILE", "LOADS_OR_RUNS", "MORE"]

HOSTILE = [
    "<img src=x onerror=pwned()>",
    "<script>pwned()</script>",
    "<svg onload=pwned()><circle/></svg>",
    "<iframe srcdoc='<script>parent.pwned()</script>'></iframe>",
    "<style>body { display: none }</style>",
    "<form action=/stolen><button>Send</button></form>",
    "<details open ontoggle=pwned()>x</details>",
    "<a href='javascript:pwned()'>click</a>",
    "<math><mtext><table><mglyph><style><img src=x onerror=pwned()>",
    "[click](javascript:pwned())",
    "[click](JaVaScRiPt&#58;pwned())",
    "[click](&#x6A;avascript:pwned())",
    "[click](data:text/html,<script>pwned()</script>)",
    "[click](vbscript:pwned())",
    "<javascript:pwned()>",
    '[click](https://example.org/ "onmouseover=pwned() x")',
    "[click][1]\n\n[1]: javascript:pwned()",
    "![a picture](/stolen.png?what-was-said)",
    "[click](/stolen.html)",
    "![a picture](javascript:pwned())",
    '![" onerror=pwned() x](x)',
    "`<img src=x onerror=pwned()>`",
    "```\n<img src=x onerror=pwned()>\n```",
    '```"><img src=x onerror=pwned()>\ncode\n```',
    "| <img src=x onerror=pwned()> | b |\n|---|---|\n| <script>pwned()</script> | d |",
    "- [ ] <img src=x onerror=pwned()>",
    "<!-- <img src=x onerror=pwned()> -->",
    "<b>a</b> <pre><img src=x onerror=pwned()></pre>",
]
LOADS_OR_RUNS = "img, script, svg, math, iframe, style, form, input, details, object, embed, video, link, base, meta"

_RUN = "pwned()"
_TAGS = (
    "a",
    "audio",
    "body",
    "button",
    "div",
    "embed",
    "frameset",
    "img",
    "input",
    "marquee",
    "object",
    "video",
    "x-y",
)
_EVENTS = ("onanimationstart", "onerror", "onfocus", "onload", "onpointerover", "ontoggle")
_SCHEMES = ("javascript:", "java\tscript:", "jav&#x0A;ascript:", "\x01javascript:", "javascript&colon;", "JAVASCRIPT:", "feed:javascript:", "view-source:javascript:", "blob:javascript:")  # fmt: skip

MORE = [
    *(f"<{tag} autofocus tabindex=1 src=x {event}={_RUN}>" for tag in _TAGS for event in _EVENTS),
    *(f"[click]({scheme}{_RUN})" for scheme in _SCHEMES),
    *(f"<a href='{scheme}{_RUN}'>click</a>" for scheme in _SCHEMES),
    *(f"[click][it]\n\n[it]: <{scheme}{_RUN}>" for scheme in _SCHEMES),
    f"```html\n</code></pre><img src=x onerror={_RUN}>\n```",
    f"```<img/src=x/onerror={_RUN}>\ncode\n```",
    f'```x" onload="{_RUN}\ncode\n```',
    f"<template><img src=x onerror={_RUN}></template>",
    f"<noscript><p title='</noscript><img src=x onerror={_RUN}>'>",
    f"<svg><style><img src=x onerror={_RUN}></style></svg>",
    f"<math><mi><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror={_RUN}&gt;'>",
    f"<svg><animate attributeName=href values=javascript:{_RUN} /><a><text y=9>x</text></a></svg>",
    f"<base href='javascript:{_RUN}//'>",
    f"<meta http-equiv=refresh content='0;url=javascript:{_RUN}'>",
    f"<link rel=stylesheet href='data:text/css,*{{}}' onload={_RUN}>",
    f"<object data='data:text/html,<script>parent.{_RUN}</script>'></object>",
    "<p style='background:url(/stolen.png)'>x</p>",
    "<a id=location href='/stolen.html'>x</a><form id=document></form>",
]
"""Each way of running something with each tag, each spelling of the scheme, and ways out of the places where text may stand."""
