"""Text alone: Magpie, ALLaVA's text, Evol-Instruct, and other lists of conversations.

Sources: Magpie-Align's sets, {conversations: [{from, value}]} in JSON or Parquet; FreedomIntelligence/ALLaVA-4V,
Evol-Instruct-GPT4-Turbo-143K.json, list of {id, conversations}; WizardLM_evol_instruct_V2_143k.json, the same.
"""

from ..contract import AnnotationFile, TrainingSet

SETS = (
    TrainingSet(
        name="text-instruct",
        title="Text (Magpie, ALLaVA)",
        kind="text",
        stages=("V2",),
        files=(
            AnnotationFile(
                patterns=("*agpie*.json*", "*agpie*.parquet", "*train-*.parquet", "*ALLaVA*text*.json"),
                several=True,
                what="conversations",
            ),
        ),
        published=None,
        paper=120_000,
        known="120K of Magpie and ALLaVA (Table 3)",
        choice="all records: which of the Magpie sets, and in what shares, is not given",
        licence="CC BY-NC 4.0",
        ask="https://huggingface.co/Magpie-Align",
    ),
    TrainingSet(
        name="evol-instruct",
        title="Evol-Instruct",
        kind="text",
        stages=("AV",),
        files=(AnnotationFile(patterns=("*vol*nstruct*.json",), what="conversations", published=143_000),),
        published=143_000,
        paper=23_200,
        known="23.2K in the joint phase (Table 4)",
        choice="a random share; which records is not known",
        licence="Apache-2.0",
        ask="https://huggingface.co/datasets/FreedomIntelligence/ALLaVA-4V",
    ),
)
