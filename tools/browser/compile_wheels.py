"""Runs in Pyodide: makes wheels of bytecode, which a page does not have to compile."""

import importlib.util
import io
import marshal
import zipfile
from typing import Any


def compiled(data: Any) -> bytes:
    """Return the wheel in ``data`` with each ``.py`` replaced by a ``.pyc`` to import instead."""
    wheel = zipfile.ZipFile(io.BytesIO(data.to_bytes()))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as out:
        for info in wheel.infolist():
            content = wheel.read(info)
            if info.filename.endswith(".py"):
                code = compile(content, info.filename, "exec", dont_inherit=True)
                # Flags and source time are 0: there is no source to compare with.
                content = importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)
                info.filename += "c"
            elif info.filename.endswith(".dist-info/RECORD"):
                content = b"".join(
                    line.replace(b".py,", b".pyc,", 1).split(b",")[0] + b",,\n"
                    for line in content.splitlines()
                )
            out.writestr(info, content)
    return made.getvalue()
