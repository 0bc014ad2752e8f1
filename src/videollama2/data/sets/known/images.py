"""Image sets: LLaVA's list of CC-3M, DCI, LLaVA's instructions, ShareGPT4V.

Sources: liuhaotian/LLaVA-CC3M-Pretrain-595K: chat.json, and liuhaotian/LLaVA-Instruct-150K: llava_v1_5_mix665k.json,
both lists of {id, image, conversations}, of which the second also has text alone. Lin-Chen/ShareGPT4V:
sharegpt4v_instruct_gpt4-vision_cap100k.json, the same, 102,025 (OpenGVLab/InternVL counts them).
facebookresearch/DCI, dataset/densely_captioned_images/dataset/{dense_image,config}.py: one .json per image {image,
short_caption, extra_caption, mask_data, mask_keys}, in complete/ or annotations/, images in photos/; the extended
caption is the short one and the extra one.
"""

from collections.abc import Iterator

from ...annotations import Row, read_json
from ..contract import AnnotationFile, Draft, Drop, Sources, TrainingSet
from ..prompts import IMAGE_DETAIL


class _Dci(TrainingSet):
    def rows(self, sources: Sources) -> Iterator[Row]:
        for source in sources:
            yield Row(read_json(source.path), source.path.name)

    def official(self, row: Row) -> Iterator[Draft | Drop]:
        parts = [row.text(key).strip() for key in ("short_caption", "extra_caption") if row.has(key)]
        yield self.caption(row.text("image"), " ".join(parts), row.text("image"))


_LLAVA = "https://github.com/haotian-liu/LLaVA"

SETS = (
    TrainingSet(
        name="cc-3m",
        title="CC-3M (LLaVA's 595K)",
        kind="image",
        stages=("V1",),
        files=(AnnotationFile(patterns=("*CC3M*/chat.json", "chat.json"), what="list of {id, image, conversations}"),),
        published=595_375,
        paper=595_000,
        known="595K, LLaVA's filtered list (Table 2)",
        choice="all of it",
        licence="as CC-3M",
        ask=f"{_LLAVA} (LLaVA-CC3M-Pretrain-595K, images.zip)",
    ),
    _Dci(
        name="dci",
        title="DCI (Densely Captioned Images)",
        kind="image",
        stages=("V1",),
        files=(
            AnnotationFile(
                patterns=("complete/*.json", "annotations/*.json", "dci*/*.json"),
                several=True,
                what="one file per image {image, short_caption, extra_caption, mask_data}",
                keys=("short_caption", "extra_caption"),
            ),
        ),
        published=7_805,
        paper=7_800,
        prompts=IMAGE_DETAIL,
        known="all 7.8K images (Table 2)",
        choice="which of the captions is not known; the short one and the extra one, without those of masks",
        licence="CC BY-NC 4.0",
        ask="https://github.com/facebookresearch/DCI (photos: SA-1B, sa_000138.tar)",
    ),
    TrainingSet(
        name="llava-instruct",
        title="LLaVA-1.5 instructions",
        kind="image",
        stages=("V2", "AV"),
        files=(
            AnnotationFile(
                patterns=("llava_v1_5_mix665k.json", "llava_instruct_150k.json"),
                what="list of {id, image, conversations}; some without image",
            ),
        ),
        published=665_298,
        paper=664_000,
        mixed=True,
        known="198K of image VQA and 466K of instructions (Table 3); 62K in the joint phase",
        choice="the whole mix; the 62K are a random share",
        licence="CC BY 4.0",
        ask=f"{_LLAVA} (COCO, GQA, OCR-VQA, TextVQA, Visual Genome)",
    ),
    TrainingSet(
        name="sharegpt4v",
        title="ShareGPT4V",
        kind="image",
        stages=("V2", "AV"),
        files=(
            AnnotationFile(
                patterns=(
                    "sharegpt4v_instruct_gpt4-vision_cap100k.json",
                    "*sharegpt4v*100k*.json",
                    "*sharegpt4v*.json",
                ),
                what="list of {id, image, conversations}",
                published=102_025,
            ),
        ),
        published=102_025,
        paper=82_000,
        known="82K of image captions (Table 3)",
        choice="a random share of the 100K by GPT-4V; the paper does not say which 82K",
        licence="CC BY-NC 4.0",
        ask="https://sharegpt4v.github.io (LAION-CC-SBU, SAM, COCO, web images)",
    ),
)
