"""The page as a tab in TensorBoard: "Attention", for every run under the log directory.

Registered as an entry point (pyproject.toml), so TensorBoard finds it by itself. torch is imported
when the tab asks for a page, not before: TensorBoard starts as fast as ever.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.backend import http_util  # type: ignore[import-untyped]
from tensorboard.plugins import base_plugin  # type: ignore[import-untyped]
from werkzeug import Request, Response
from werkzeug.exceptions import (
    BadRequest,
    Gone,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    UnprocessableEntity,
)

from gpt.command.process import as_mistake
from gpt.errors import Mistake
from gpt.explorer.listing import plain_checkpoints_of, runs_in
from gpt.storage.run_directory import best_of

HERE = Path(__file__).parent


class AttentionPlugin(base_plugin.TBPlugin):
    """Lists the runs that hold checkpoints and serves the page of the one that is chosen."""

    plugin_name = "attention"

    def __init__(self, context: base_plugin.TBContext):
        super().__init__(context)
        self.logdir = Path(context.logdir) if context.logdir else None
        self.listing: dict[str, list[Path]] = {}

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
            {
                "name": name,
                "checkpoints": [path.name for path in checkpoints],
                "best": best_of(checkpoints).name,
            }
            for name, checkpoints in self.look().items()
        ]
        return http_util.Respond(request, runs, "application/json")

    def serve_page(self, request: Request) -> Response:
        """The self-contained page, with all weights, whatever the size: it is served locally."""
        name, checkpoint = (request.args.get(key) for key in ("run", "checkpoint"))
        if name is None or checkpoint is None:
            raise BadRequest("a page needs a run and a checkpoint")
        path = self.find(name, checkpoint)

        from gpt.explorer import export  # late: it brings torch

        try:
            exhibit = export.find_exhibit(str(path), None, lambda line: None, plain_checkpoints_of)
            page = export.html(exhibit, most_parameters=None)
        except (Mistake, OSError) as problem:
            if not path.exists():
                raise gone(name, checkpoint) from None
            raise UnprocessableEntity(as_mistake(problem).lines()) from None
        digest = export.digest(export.script()).removeprefix("sha256-")
        return http_util.Respond(request, page, "text/html", csp_scripts_sha256s=[digest])

    def runs(self) -> dict[str, list[Path]]:
        """The runs as they were when last looked for; an empty listing is not worth keeping."""
        return self.listing or self.look()

    def look(self) -> dict[str, list[Path]]:
        """Look for runs anew, which takes seconds where there are thousands."""
        self.listing = runs_in(self.logdir) if self.logdir else {}
        return self.listing

    def find(self, name: str, checkpoint: str) -> Path:
        """The path of a checkpoint of a run; that run alone is looked at again.

        Raises:
            NotFound: if there was none when the runs were listed, or Gone if it is none any more.
        """
        # looked up, never joined to a path: nothing but what is listed can be asked for
        listed = self.runs().get(name, [])
        now = plain_checkpoints_of(listed[0].parents[1]) if listed else []
        for path in now:
            if path.name == checkpoint:
                return path
        if checkpoint in {path.name for path in listed}:
            raise gone(name, checkpoint)
        raise NotFound(f"no checkpoint {checkpoint} of a run {name} in the log directory")


def gone(name: str, checkpoint: str) -> Gone:
    return Gone(
        f"{checkpoint} of the run {name} is not there any more: a training keeps the newest"
        " checkpoints and the best. Press “look again” and choose another."
    )


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
