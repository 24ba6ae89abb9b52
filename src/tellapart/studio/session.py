"""What a studio works on: images, doubts and decisions, with a thread that looks for doubts while the page is open."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.api.doubts import INSTEAD, Doubts, doubts, predictions_of, run_at
from tellapart.config import Config
from tellapart.data import pixels
from tellapart.data.batches import catalogued
from tellapart.data.decisions import Decisions
from tellapart.data.label_errors import has_cleanlab
from tellapart.data.map import UmapMaker, has_umap
from tellapart.data.sources import open_row
from tellapart.errors import TellapartError
from tellapart.files import terminal_safe
from tellapart.progress import Phase
from tellapart.studio.browse import Index
from tellapart.studio.feedback import FeedbackSession
from tellapart.studio.retrain import Trainer
from tellapart.studio.review import Review
from tellapart.svg import encoded
from tellapart.task import require_one_label

if TYPE_CHECKING:
    from tellapart.explain.heat import HeatMaker

_PATIENCE = 3.0
_CACHED = 1.0
"""Seconds in which a map that was made before is read."""
UNSEARCHED = (
    "Labels that look wrong were not searched for. Install what finds them with: pip install 'tellapart[check]'"
)


class Session(Review):
    """One run, or labelled images. `begin` looks for doubts in the background; until then there are none."""

    def __init__(
        self, data: str, file: Path, config: Config, options: Sequence[str] = (), feedback: Path | None = None
    ) -> None:
        """file: of the corrections. options: of `train`, as typed, by which the images are read. feedback: the folder
        of `serve --feedback`, for a run. Raises RunError, ConfigError."""
        run = run_at(data)
        if run is not None:
            require_one_label(run.task.several, "The studio", INSTEAD)
        super().__init__(data, Decisions(file), Trainer(data, options, run, file), run)
        self._config = config
        self._maker: HeatMaker | None = None
        self._heat_lock = threading.Lock()
        self._umap = UmapMaker()
        self._map_lock = threading.Lock()
        self._mapping: threading.Thread | None = None
        self._map_problem = ""
        self._thread: threading.Thread | None = None
        if feedback is not None:
            self.feedback = FeedbackSession(feedback, self)
            self.trainer.added = self.feedback.accepted

    def begin(self) -> None:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def read(self) -> None:
        """The images of a run, to browse and to decide of; those of a folder are there once they were looked at."""
        if self.run is not None:
            self.looking.update(Phase.READING, 0, 0)
            self.index = Index(self.run.catalog, predictions_of(self.run))

    def close(self) -> None:
        self.looking.stop()
        self._umap.stop()
        self.trainer.stop()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _look(self) -> None:
        with self.looking.told():
            self.read()
            if self.run is not None:
                self._keep(doubts(self.run, deep=False))
                self._keep(doubts(self.run, progress=self.looking))
            else:
                self._keep(doubts(self.data, config=self._config, progress=self.looking))
            if not has_cleanlab():
                self.looking.problem = UNSEARCHED

    def _keep(self, found: Doubts) -> None:
        if self.run is None:
            self.index = Index(found.catalog, None)
        if self.index is not None and found.deep is not None:
            self.index.spread(found.plane(), "principal components")
        self._by_key = {doubt.key: doubt for doubt in found}
        self.found = found

    def begin_map(self) -> None:
        """Begin a map by UMAP where it is installed, once; until it is there, the map is by principal components."""
        with self._map_lock:
            if self._mapping is None and self.found is not None and self.found.deep is not None and has_umap():
                self._mapping = threading.Thread(target=self._map_by_umap, args=(self.found,), daemon=True)
                self._mapping.start()
                self._mapping.join(_CACHED)

    def of_map(self) -> dict[str, Any]:
        making = self._mapping is not None and self._mapping.is_alive()
        return {"axes": "" if self.index is None else self.index.axes, "making": making, "problem": self._map_problem}

    def _map_by_umap(self, found: Doubts) -> None:
        try:
            plane = found.plane(self._umap)
        except (TellapartError, OSError) as error:
            self._map_problem = terminal_safe(str(error))
        else:
            if plane and self.index is not None:
                self.index.spread(plane, "UMAP")

    def heat(self, place: int) -> bytes | None:
        """A JPEG of an image as the run's network sees it, and which parts speak for its answer, or for its label where
        the run gave none; None without a run. Raises TellapartError for an image that is gone or changed, or a run
        without its network."""
        if self.run is None or self.index is None or self.index.named(place) < 0:
            return None
        from tellapart.explain.heat import HeatMaker, overlay
        from tellapart.inference.predictor import Predictor

        with self._heat_lock:
            if self._maker is None:
                self._maker = HeatMaker(Predictor(self.run.require(self.run.onnx_file, "exported network")))
            catalog = self.index.catalog
            content = catalogued(catalog.root, catalog.images[place], open_row)
            seen = pixels.read(content, self._maker.predictor.spec)
            (heat,) = self._maker.heat(seen[None], np.array([self.index.named(place)]))
        return encoded(overlay(seen, heat), 88)
