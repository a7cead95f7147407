"""A digest as words, so that two people can compare it over the telephone: one byte a word, from a list of 256.

Source: our own list of short English nouns that are far apart in spelling (no two differ by one letter; a test checks it).
"""

_LIST = """
acorn actor album amber anchor angle apple apron arrow aspen atlas autumn bacon badge bagel balcony bamboo banjo barrel basket
beaver beehive bicycle bishop blanket blossom bonfire bottle bridge bronze bucket buffalo butter cabin cactus camel camera candle
canyon carbon carpet castle cedar cello cement chapel cherry chimney cinema circus clarinet clover cobalt coffee comet compass
copper coral cotton cradle crayon crystal cupboard curtain daisy desert diamond dolphin domino donkey dragon drawer drummer eagle
easel echo elbow elephant emerald engine envelope falcon feather fiddle finger flamingo flower forest fountain fox galaxy garden
garlic gazelle geyser giraffe glacier goblet gondola granite guitar hammer harbour harvest hazel hedgehog helmet heron hexagon
hickory honey horizon iceberg igloo indigo iris island ivory jacket jaguar jasmine jelly jigsaw jungle juniper kangaroo kayak
kettle kimono kitchen koala lagoon lantern lavender lemon leopard library lichen lizard lobster lotus lumber magnet mango maple
marble market meadow melon meteor mirror monsoon mosaic mulberry mushroom mustard napkin nectar needle nickel notebook nutmeg
oasis oboe ocean olive onion opal orchid osprey otter oyster paddle palace panther paper parrot peach pebble pelican pencil pepper
piano pigeon pillow planet plum pocket pottery prairie puffin pumpkin puzzle pyramid quartz quilt rabbit radish raven ribbon river
robin rooster rowboat ruby saffron sailor salmon sandal satchel scarf sequoia shadow shovel silver skylark snail spider spruce
squirrel starfish sugar sunset swan tangerine teapot temple thimble thunder tiger tomato tractor trumpet tulip tunnel turtle
umbrella valley vanilla velvet village violin volcano waffle wagon walnut walrus whistle window winter wolf yacht yogurt zebra
zephyr zinc
"""

WORDS: tuple[str, ...] = tuple(_LIST.split())


def in_words(digest: bytes) -> str:
    """`digest` as words of the list, in groups of four: `acorn actor album amber · angle …`."""
    words = [WORDS[byte] for byte in digest]
    return " · ".join(" ".join(words[i : i + 4]) for i in range(0, len(words), 4))
