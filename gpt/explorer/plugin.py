"""The page as a tab in TensorBoard: "Attention", for every run under the log directory.

Registered as an entry point (pyproject.toml), so TensorBoard finds it by itself. torch is imported
when the tab asks for a page, not before: TensorBoard starts as fast as ever.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.backend import http_util  # type: ignore[import-untyped]
from tensorboard.plugins import base_plugin  # type: ignore[import-untyped]
from werkzeug import Request, Response
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound
from werkzeug.exceptions import UnprocessableEntity as Unreadable

from gpt.errors import Mistake

HERE = Path(__file__).parent
LOOKS = 10  # at a log directory that changes while it is looked at


class AttentionPlugin(base_plugin.TBPlugin):
    """Lists the runs that hold checkpoints and serves the page of the one that is chosen."""

    plugin_name = "attention"

    def __init__(self, context: base_plugin.TBContext):
        super().__init__(context)
        self.logdir = Path(context.logdir) if context.logdir else None

    def get_plugin_apps(self) -> dict[str, Any]:
        routes = {
            "/index.js": self.serve_module,
            "/runs": self.serve_runs,
            "/page": self.serve_page,
        }
        return {route: application(serve) for route, serve in routes.items()}

    def is_active(self) -> bool:
        return bool(self.runs())

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Attention")

    def serve_module(self, request: Request) -> Response:
        return http_util.Respond(request, (HERE / "tab.js").read_text("utf-8"), "text/javascript")

    def serve_runs(self, request: Request) -> Response:
        runs = [
            {"name": name, "checkpoints": [path.name for path in paths], "best": best_of(paths)}
            for name, paths in self.runs().items()
        ]
        return http_util.Respond(request, runs, "application/json")

    def serve_page(self, request: Request) -> Response:
        """The self-contained page; its weights travel whatever their number, it is not far."""
        name, checkpoint = (request.args.get(key) for key in ("run", "checkpoint"))
        if name is None or checkpoint is None:
            raise BadRequest("a page needs a run and a checkpoint")
        # looked up, never joined to a path: nothing but what is listed can be asked for
        path = {path.name: path for path in self.runs().get(name, [])}.get(checkpoint)
        if path is None:
            raise NotFound(f"no checkpoint {checkpoint} of a run {name} in the log directory")

        from gpt.explorer import export  # late: it brings torch

        try:
            exhibit = export.find_exhibit(str(path), text=None, say=lambda line: None)
        except Mistake as mistake:
            raise Unreadable(mistake.lines()) from None
        digest = export.digest(export.script()).removeprefix("sha256-")
        page = export.html(exhibit, most_parameters=None)
        return http_util.Respond(request, page, "text/html", csp_scripts_sha256s=[digest])

    def runs(self) -> dict[str, list[Path]]:
        """The checkpoints of each run under the log directory, the oldest first. A run with a link
        that leads out of it is none."""
        for _ in range(LOOKS):
            try:
                return self._runs()
            except FileNotFoundError:  # a training renames and deletes while we look
                continue
        return {}

    def _runs(self) -> dict[str, list[Path]]:
        if self.logdir is None:
            return {}
        inside = self.logdir.resolve()
        runs = {path.parents[2] for path in inside.rglob("checkpoints/step-*/manifest.json")}
        return {
            str(run.relative_to(inside)): paths
            for run in sorted(runs)
            if (paths := steps_of(run)) and stays_within(inside, paths)
        }


def steps_of(run: Path) -> list[Path]:
    """As `gpt.storage.checkpoint.checkpoints_of`, which would bring torch; whole ones alone."""
    found = (path.parent for path in run.glob("checkpoints/step-*/manifest.json"))
    paths = [path for path in found if re.fullmatch(r"step-[0-9]{6,13}", path.name)]
    return sorted(paths, key=lambda path: int(path.name[5:]))


def stays_within(inside: Path, folders: list[Path]) -> bool:
    files = [file for folder in folders for file in (folder, *folder.iterdir())]
    return all(file.resolve().is_relative_to(inside) for file in files)


def best_of(paths: list[Path]) -> str:
    """The checkpoint that the run calls its best, else the newest."""
    try:
        name = (paths[0].parents[1] / "best").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    return name if name in {path.name for path in paths} else paths[-1].name


def application(serve: Callable[[Request], Response]) -> Any:
    """A WSGI application around `serve`: GET alone, and every refusal a line of plain text."""

    @Request.application
    def respond(request: Request) -> Response:
        try:
            if request.method not in ("GET", "HEAD"):
                raise MethodNotAllowed(["GET", "HEAD"], "only GET is answered")
            return serve(request)
        except HTTPException as refusal:
            text, code = refusal.description or "", refusal.code or 400
            return http_util.Respond(request, text, "text/plain", code=code)

    return respond
