"""What the page asks of the service: runs, by the names of their folders.

The queue is `serve.service.Service`'s, on disk: a run that was started from the page is one like any other. Beside its
runs the page also shows those of the same folder that came from the command line, and can take them up.
"""

from __future__ import annotations

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.pipeline.launch import Request
from kiss3d_cli.pipeline.run_folder import RunFolder, find_runs
from kiss3d_cli.report.run_report import is_current, write_report
from kiss3d_cli.serve.service import Service
from kiss3d_cli.serve.view import View


class Jobs:
    """All runs of a service's outputs folder.

    Args:
        service: which does them.
    """

    def __init__(self, service: Service) -> None:
        self.service, self.outputs = service, service.out

    def start(self, request: Request) -> str:
        """Check a request, make its run folder and put it into the queue; its name.

        Raises:
            BadInput, Missing, QueueFull: as `Service.accept`.
        """
        return self.service.accept(request)[0].ticket.id

    def resume(self, name: str) -> None:
        """Go on with a run. Raises what `find` and `Service.take_up` raise."""
        self.service.take_up(self.find(name))

    def cancel(self, name: str) -> None:
        """Stop a run at its next safe point; one that waits never starts."""
        self.service.cancel(name)

    def view(self, name: str | None) -> View | None:
        """What the service knows of a run; None if it never had it."""
        return None if name is None else self.service.view(name)

    def active(self, name: str | None) -> bool:
        """Whether a run waits or is at work."""
        view = self.view(name)
        return view is not None and not view.ticket.ended

    def unfinished(self) -> list[str]:
        """Runs that wait or are at work, the oldest first."""
        return [view.ticket.id for view in reversed(self.service.views()) if not view.ticket.ended]

    def names(self) -> list[str]:
        """Run folders, the newest first; none that a link leads away from the outputs folder."""
        own = self.outputs.resolve()
        return [run.path.name for run in find_runs(self.outputs) if run.path.resolve().parent == own]

    def find(self, name: str) -> RunFolder:
        """The run folder of this name. Raises BadInput if it is not one of `names`."""
        if name not in self.names():
            raise BadInput("there is no such run", place=name[:80], hint="choose one from the list")
        return RunFolder(self.outputs / name)

    def report(self, name: str) -> None:
        """Write the report of a run without one, or with one of before it was killed. Raises OSError."""
        folder = self.find(name)
        if not is_current(folder):
            write_report(folder)
