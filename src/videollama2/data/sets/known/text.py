"""Text alone: Magpie, ALLaVA's text, Evol-Instruct, and other lists of conversations.

Sources: Magpie-Align's sets, data/train-<n>-of-<m>.parquet {conversations: [{from, value}], instruction, response,
…}, or the same as JSON; FreedomIntelligence/ALLaVA-4V, allava_text/Evol-Instruct-GPT4-Turbo-143K.json, list of {idx,
conversations}; WizardLM_evol_instruct_V2_143k.json, the same; alpaca_evol_instruct_70k.json, list of {instruction,
output}.
"""

from collections.abc import Iterator

from ...annotations import Row
from ..contract import AnnotationFile, Draft, Drop, TrainingSet, record_key


class _Text(TrainingSet):
    def official(self, row: Row) -> Iterator[Draft | Drop]:
        """A row of an instruction and its answer."""
        asked = [row.text(key).strip() for key in ("instruction", "input") if row.has(key)]
        turns = (("\n".join(asked), row.text("response", "output").strip()),)
        yield Draft(key=record_key((), turns), turns=turns) if asked else Drop("no question")


SETS = (
    _Text(
        name="text-instruct",
        title="Text (Magpie, ALLaVA)",
        kind="text",
        stages=("V2",),
        files=(
            AnnotationFile(
                patterns=("*agpie*.json*", "*agpie*.parquet", "*train-*.parquet", "*ALLaVA*text*.json"),
                several=True,
                what="conversations, or instruction and response",
                keys=("instruction", "response"),
            ),
        ),
        published=None,
        paper=120_000,
        known="120K of Magpie and ALLaVA (Table 3)",
        choice="all records: which of the Magpie sets, and in what shares, is not given",
        licence="CC BY-NC 4.0",
        ask="https://huggingface.co/Magpie-Align",
    ),
    _Text(
        name="evol-instruct",
        title="Evol-Instruct",
        kind="text",
        stages=("AV",),
        files=(
            AnnotationFile(
                patterns=("*[eE]vol*[iI]nstruct*.json*", "*[eE]vol*[iI]nstruct*.parquet"),
                what="conversations, or instruction and output",
                keys=("instruction", "output"),
                published=143_000,
            ),
        ),
        published=143_000,
        paper=23_200,
        known="23.2K in the joint phase (Table 4)",
        choice="a random share; which records is not known",
        licence="Apache-2.0",
        ask="https://huggingface.co/datasets/FreedomIntelligence/ALLaVA-4V",
    ),
)
