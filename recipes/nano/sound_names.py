"""The names of YAMNet's 521 classes, as the language model should say them, and as tokens for the audio projector.

Classes that people would call the same have one name (bark, yip and bow-wow are "a dog"); a name's probability is the
greatest of its classes'. Broader names ("an animal") stand apart, so that they never hide what they are broader than.
"""

import torch
from torch import Tensor

from videollama2.sound_names import SoundNaming

# name → the numbers of its classes (AudioSet's, in YAMNet's order), as ranges
NAMES: dict[str, str] = {
    "speech": "0-5", "a shout": "6-10", "a scream": "11", "whispering": "12", "laughter": "13-18", "crying": "19 21-22",
    "a baby": "14 20", "a sigh": "23", "singing": "24 26-32 249-250", "a choir": "25", "a groan": "33-34",
    "whistling": "35", "breathing": "36-37 39-40", "snoring": "38", "a cough": "42-43", "a sneeze": "44-45",
    "footsteps": "46-48", "chewing": "49-50", "gargling": "51", "a stomach rumble": "52", "a burp": "53",
    "a hiccup": "54", "a fart": "55", "a finger snap": "57", "clapping": "58", "a heartbeat": "59-60",
    "applause": "62", "a crowd": "61 63-65", "children": "66",
    "a dog": "69-71 73 75", "a wolf": "72 117", "growling": "74", "a cat": "76-78 80", "hissing": "79",
    "a horse": "82 84", "hooves": "83", "a cow": "85-86", "a cowbell": "87", "a pig": "88-89", "a goat": "90",
    "a sheep": "91-92", "chickens": "94-95", "a rooster": "96", "a turkey": "97-98", "a duck": "99-100",
    "a goose": "101-102", "a lion": "104-105", "birds": "106-109 116", "a pigeon": "110-111", "a crow": "112-113",
    "an owl": "114-115", "a mouse": "118-120", "a cricket": "122", "a mosquito": "123", "a fly": "124",
    "a bee": "125-126", "a frog": "127-128", "a snake": "129", "a rattle": "130 170", "a whale": "131",
    "a guitar": "134-141", "a banjo": "142", "a sitar": "143", "a mandolin": "144", "a zither": "145",
    "a ukulele": "146", "a piano": "147-149", "an organ": "150-152", "a synthesizer": "153-154",
    "a harpsichord": "155", "drums": "156-165", "a cymbal": "166-167", "a wood block": "168",
    "a tambourine": "169", "maracas": "171", "a gong": "172", "a xylophone": "173-177", "a steel drum": "178",
    "an orchestra": "179", "a horn": "180-181", "a trumpet": "182", "a trombone": "183",
    "a violin": "184-187", "a cello": "188", "a double bass": "189", "a flute": "190-191", "a saxophone": "192",
    "a clarinet": "193", "a harp": "194", "bells": "195-196 202", "jingle bells": "197", "a bicycle bell": "198",
    "a tuning fork": "199", "chimes": "200-201", "a harmonica": "203", "an accordion": "204", "bagpipes": "205",
    "a didgeridoo": "206", "a shofar": "207", "a theremin": "208", "a singing bowl": "209", "a record scratch": "210",
    "beatboxing": "213", "rock music": "214-220", "opera": "233", "jazz": "225 230", "electronic music": "234-242",
    "wind": "277 279", "rustling leaves": "278", "thunder": "280-281", "rain": "283-285", "a stream": "286",
    "a waterfall": "287", "waves": "288-289", "steam": "290", "gurgling water": "291", "a fire": "292-293",
    "a boat": "295 297-298", "a sailing ship": "296", "a ship": "299 395", "a car": "301 306-309 321",
    "a car horn": "302-303 312", "a car alarm": "304", "a truck": "310-311", "reversing beeps": "313",
    "an ice cream truck": "314", "a bus": "315", "a siren": "316-319 390-391", "a motorcycle": "320",
    "a train": "322-327", "a subway": "328", "an airplane": "329-332 334", "a helicopter": "333",
    "a bicycle": "335", "a skateboard": "336", "a drill": "339 419", "a lawn mower": "340", "a chainsaw": "341",
    "a door": "348 351-352", "a doorbell": "349-350", "knocking": "353", "squeaking": "355 480",
    "a drawer": "356-357", "dishes": "358", "cutlery": "359", "chopping": "360 432", "frying": "361 484",
    "a microwave": "362", "a blender": "363", "a water tap": "364-366", "a hair dryer": "367", "a toilet": "368",
    "a toothbrush": "369-370", "a vacuum cleaner": "371", "a zipper": "372", "keys": "373", "a coin": "374",
    "scissors": "375", "a shaver": "376", "cards": "377", "typing": "378-380", "writing": "381",
    "a telephone": "383-388", "an alarm clock": "389", "a buzzer": "392", "a smoke alarm": "393-394",
    "a whistle": "396-397", "a clock": "400-402", "gears": "399 403-404", "a sewing machine": "405",
    "a fan": "406-407", "a cash register": "408", "a printer": "409", "a camera": "410-411", "a hammer": "413",
    "a jackhammer": "414", "a saw": "415-417", "an explosion": "420 429-430", "a gunshot": "421-425",
    "fireworks": "426-427", "a pop": "428 488", "a crack": "433-434", "glass": "435-437", "a splash": "439-441",
    "dripping water": "442", "pouring water": "443-446", "a spray": "447", "a pump": "448", "stirring": "449",
    "boiling water": "450", "a sonar": "451", "an arrow": "452", "a whoosh": "453", "a thump": "454-455",
    "a basketball": "459", "a slap": "461-462", "a crash": "463-464", "bouncing": "465", "a whip": "466",
    "scratching": "468-470", "crumpling": "472-474 493", "a beep": "475-476", "a clang": "477-478 483 489",
    "a squeal": "479", "a rustle": "481", "clicking": "485-486", "a rumble": "487", "humming": "490 510",
    "silence": "494", "static": "509", "white noise": "514-515", "a television": "518", "a radio": "519",
}  # fmt: skip
GENERAL: dict[str, str] = {
    "a voice": "0-34", "a person": "35-66", "an animal": "67-131", "music": "132-276", "wind": "277-279",
    "water": "282-291 364-366 438-450", "a vehicle": "294-347", "an engine": "337-347", "an alarm": "382-397",
    "a machine": "398-411", "a tool": "412-419", "a bang": "420-430 454-466", "something of wood": "353-354 431-434",
    "noise": "498-517", "silence": "494",
}  # fmt: skip
# how much of its classes' probabilities counts for a name: less for one that hides others, more for one that is hidden.
# Beside 0.4 to 0.95 of speech, a crowd's classes have 0.02 to 0.3, singing's 0.13 to 0.35, laughter's 0.07 to 0.2; one
# person who speaks has less than 0.002 in all of them. Of 727 recordings of training's other classes, 11, 4 and 4 get
# these names.
SHARES = {"speech": 0.5, "silence": 0.6, "birds": 0.9, "a crowd": 15.0, "singing": 3.0, "laughter": 3.0}
CLASS_SHARES = {("chickens", 94): 0.85}  # "Chicken, rooster", beside a class for crowing
PAD, CERTAIN, DOUBTFUL = ",", " certainly", " maybe"


def numbers(ranges: str) -> list[int]:
    """ "0-2 5" → [0, 1, 2, 5]."""
    spans = [span.partition("-") for span in ranges.split()]
    return [n for first, _, last in spans for n in range(int(first), int(last or first) + 1)]


def members(table: dict[str, str], classes: int = 521) -> Tensor:
    """f32[names, classes]: how much of a class's probability counts for a name."""
    out = torch.zeros(len(table), classes)
    for row, (name, ranges) in enumerate(table.items()):
        for n in numbers(ranges):
            out[row, n] = CLASS_SHARES.get((name, n), SHARES.get(name, 1.0))
    return out


def bare(name: str) -> str:
    """Without its article."""
    return name.removeprefix("an ").removeprefix("a ")


def sound_dictionary(tokenizer: object, embeddings: Tensor, naming: SoundNaming) -> dict[str, Tensor]:
    """The tensors of a projector's `names`, from the language model's token embeddings."""
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    rows = [*NAMES, *GENERAL]
    words = torch.full((len(rows), naming.words), encode(PAD)[0])
    for row, name in enumerate(rows):
        ids = encode(" " + bare(name))[: naming.words]
        words[row, : len(ids)] = torch.tensor(ids)
    certainty = torch.stack([embeddings[encode(text)].mean(0) for text in (DOUBTFUL, CERTAIN)])
    joined = torch.cat([members(NAMES), members(GENERAL)])
    return {"words": embeddings[words], "certainty": certainty, "members.weight": joined}
