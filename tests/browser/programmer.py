"""Runs Python in a page that shows nothing, as a program that uses the library would."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, Page

__all__ = ["Programmer"]


class Programmer:
    """Someone with a page that has a worker, and in it a Python that stays from one program to the next."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.page: Page = context.new_page()
        self.page.goto(f"{address}nothing.html")

    def run(self, code: str) -> str:
        """What the last line of a program comes to; the traceback if it fails."""
        told = self.page.evaluate(
            """(code) => new Promise((resolve, reject) => {
                window.worker ??= new Worker("python.mjs", { type: "module" });
                worker.onmessage = ({ data }) => resolve(data);
                worker.onerror = (error) => reject(new Error(error.message));
                worker.postMessage(code);
            })""",
            code,
        )
        return str(told)
