"""The step for datatrove, run by its local executor in processes of its own."""

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forgetfilter.errors import RunError

pytest.importorskip("datatrove")

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers.parquet import ParquetWriter

from forgetfilter import RowScorer
from forgetfilter.integrations.datatrove import ForgetFilterStep
from support.further_rows import rows


def read(folder):
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_a_pipeline_divides_documents(run, tmp_path):
    (tmp_path / "in").mkdir()
    for part in range(2):
        documents = [
            {"text": row["completion"], "id": row["id"]}
            for kind in ("unsafe", "safe")
            for row in rows(6, kind, 50 + 10 * part)
        ]
        documents.append({"text": "…", "id": f"nothing{part}"})
        pq.write_table(pa.Table.from_pylist(documents), tmp_path / "in" / f"{part}.parquet")
    removed = ParquetWriter(str(tmp_path / "removed"))
    pipeline = [
        ParquetReader(str(tmp_path / "in"), doc_progress=False),
        ForgetFilterStep(run, exclusion_writer=removed, batch_size=5),
        ParquetWriter(str(tmp_path / "kept")),
    ]
    LocalPipelineExecutor(pipeline, tasks=2, workers=2, logging_dir=str(tmp_path / "logs")).run()
    kept, gone = read(tmp_path / "kept"), read(tmp_path / "removed")
    assert len(kept) + len(gone) == 26
    assert {row["id"][:4] for row in kept} == {"safe", "noth"}
    assert {row["id"][:6] for row in gone} == {"unsafe"}
    scorer = RowScorer.load(run)
    for row in [*kept, *gone]:
        suspicion = row["metadata"]["forgetfilter_suspicion"]
        assert scorer.keeps(suspicion) == (row["id"] in {row["id"] for row in kept})
        assert suspicion == pytest.approx(scorer.score_texts([row["text"]]).suspicion[0], nan_ok=True)
    assert all(row["metadata"]["filter_reason"] == "suspicious" for row in gone)
    assert all("like rows that the run removed" in row["metadata"]["forgetfilter_reason"] for row in gone)
    # One count for all that is dropped, not one for each sentence.
    stats = json.loads((tmp_path / "logs" / "stats.json").read_text())
    counts = next(step["stats"] for step in stats if "forgetfilter" in step["name"])
    assert counts["dropped_suspicious"] == 12


def test_a_step_is_pickled_without_what_it_loaded(run):
    step = ForgetFilterStep(run, "states", threshold="top:20%")
    documents = [Document(text=rows(1, kind, 50)[0]["completion"], id=kind) for kind in ("unsafe", "safe")]
    found = [step.filter(document) for document in documents]
    suspicion = [document.metadata["forgetfilter_suspicion"] for document in documents]
    assert suspicion[0] > suspicion[1]
    again = pickle.loads(pickle.dumps(step))
    assert again._scorer is None
    assert [again.filter(document) for document in documents] == found
    assert again.scorer.cut.explanation.startswith("the 20% of the rows")


def test_what_is_wrong_shows_before_any_worker_starts(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        ForgetFilterStep(tmp_path)
