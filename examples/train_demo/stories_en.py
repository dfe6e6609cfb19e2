"""English stories by grammar: an opening, a meeting, a plot that fits the topics, an end that names them.

Fields: {h} the hero and {o} the other ("the fox", "Lily"); {H} and {O} the same to begin a sentence; {ah} and {ao}
the same with "a".
"""

from __future__ import annotations

SHORT = "short"
"""The words by which a request for a short story is recognised."""

ASKS = (
    "Tell me a story about {}.",
    "Tell a story about {}.",
    "Please tell me a story about {}.",
    "Can you tell me a story about {}?",
    "Tell a short story about {}.",
    "Write a short story about {}.",
    "I want to hear a story about {}.",
    "Tell me a short story about {}.",
    "Do you know a story about {}?",
    "A short story about {}, please.",
)
HELD_OUT_ASKS = (
    "Please write a short story about {}.",
    "Could you tell a story about {}?",
    "I would like to hear a story about {}.",
)

CHILDREN = ("Lily", "Tom", "Anna", "Ben", "Mia", "Sam", "Lucy", "Max")
TRAITS = ("brave", "little", "kind", "clever", "happy", "shy", "young", "funny", "quiet", "curious")
LOOKS = ("red", "golden", "old", "tiny", "shiny", "blue", "big", "green", "strange", "beautiful")

OPENINGS = (
    "Once upon a time, there was {ah}.",
    "Long ago, there lived {ah} near a hill.",
    "There once was {ah} who loved to sing.",
    "In a small town lived {ah}.",
    "One sunny morning, {ah} went for a walk.",
    "One cold winter day, {ah} looked out of the window.",
)

MEETINGS = {
    "agent": (
        "On the way, {h} met {ao}.",
        "Next door lived {ao}.",
        "One day, {ao} came by and said hello.",
        "Not far away, {ao} was sitting under a tree.",
        "In the afternoon, {h} saw {ao} near the water.",
    ),
    "thing": (
        "Under a tree, {h} found {ao}.",
        "One day, {h} got {ao} as a gift.",
        "In the tall grass lay {ao}.",
        "At the market, {h} saw {ao}.",
        "More than anything, {h} wanted {ao}.",
    ),
    "place": (
        "One day, {h} came to {ao}.",
        "{H} had always wanted to see {ao}.",
        "Far away, behind the hills, there was {ao}.",
        "An old map showed the way to {ao}.",
        "Every night, {h} dreamed of {ao}.",
    ),
}

PLOTS = {
    "agent": (
        (
            "{O} had lost a ring and was very sad.",
            '"Do not cry," said {h}. "I will help you."',
            "They looked everywhere, and at last they found it behind a stone.",
        ),
        (
            "Suddenly a big storm came, and the rain fell hard.",
            "{H} had a warm house, and {o} was cold.",
            '"Come in," said {h}, and they drank hot tea until the sun came back.',
        ),
        (
            "{O} was very hungry.",
            "{H} had only one apple left.",
            "{H} gave half of it to {o}, and it tasted better than ever.",
        ),
        (
            '"I am afraid of the dark," said {o}.',
            '{H} pointed at the stars and said, "Look, the sky is full of little lights."',
            "Then {o} was not afraid any more.",
        ),
        (
            '"Let us have a race," said {o}.',
            "They ran as fast as the wind, over the field and around the lake.",
            "Nobody won, because they laughed too much.",
        ),
        (
            "{O} wanted to learn a song.",
            "{H} sang it slowly, line by line.",
            "In the evening they sang it together, and the birds listened.",
        ),
        (
            "{O} could not get across the water.",
            '"I have an idea," said {h}.',
            "They put stones in a row, and step by step they both got across.",
        ),
        (
            "It was the birthday of {o}, but nobody had come.",
            "{H} ran home and baked a cake with honey.",
            '"This is the best day of my life," said {o}.',
        ),
        (
            "They both wanted the same pear, and they began to fight.",
            'Then {h} stopped and said, "I am sorry."',
            "{O} smiled, and they shared the pear.",
        ),
        (
            '"I want to build a house," said {o}.',
            "{H} brought wood, and {o} brought stones.",
            "They worked for seven days, and the house was strong and warm.",
        ),
    ),
    "thing": (
        (
            '"Who has lost this?" asked {h}, but nobody knew.',
            'An old woman said, "It brings luck to those who share."',
            "So {h} let everyone in the town use {o}.",
        ),
        ("But {o} was broken.", "{H} worked all night to mend it.", "In the morning {o} was as good as new."),
        (
            "{H} took {o} home and kept it safe.",
            "One dark night, somebody needed help.",
            "{H} brought {o}, and soon all was well.",
        ),
        (
            "When {h} touched it, {o} began to glow.",
            '"You have one wish," said a soft voice.',
            "{H} wished that everyone would be happy, and {o} danced with joy.",
        ),
        (
            "A strong wind came and carried {o} away.",
            "{H} ran after it, over the hill and through the field.",
            "At last {o} landed softly in the grass.",
        ),
        (
            "A poor child had never seen such a thing before.",
            "{H} thought about it for a long time.",
            "Then {h} gave {o} to the child, and both were happy.",
        ),
    ),
    "place": (
        (
            "The way was long, and the night was dark.",
            "{H} sang a song and was not afraid.",
            "In the morning, {o} was bright in the sun.",
        ),
        (
            "Somebody was calling for help there.",
            "{H} looked around and saw a small bird that could not fly.",
            "{H} took care of it until it was well again.",
        ),
        (
            "People said that gold was hidden there.",
            "{H} looked for three days and found only a seed.",
            "The seed grew into a tree full of sweet fruit, the finest in {o}.",
        ),
        (
            "It was so quiet there that {h} could hear the wind.",
            "{H} sat down and drew a picture of {o}.",
            "It was the most beautiful picture in the whole land.",
        ),
        (
            "There {h} met an old man with a white beard.",
            '"Stay for the night," he said, and he told of the old days.',
            "{H} listened until the stars went out.",
        ),
        (
            "Thick snow had covered everything.",
            "{H} made a fire and waited.",
            "When spring came, {o} was full of flowers.",
        ),
    ),
}

ENDINGS = {
    "agent": (
        "From that day on, {h} and {o} were best friends.",
        "{H} and {o} walked home together and were happy.",
        "And so {h} and {o} learned that sharing is good.",
        "After that, {h} visited {o} every day.",
    ),
    "thing": (
        "{H} never forgot {o}.",
        "From that day on, {h} and {o} were always together.",
        "And {h} was happy with {o} for many years.",
        "That was the story of {h} and {o}.",
    ),
    "place": (
        "{H} went home happy and told everyone about {o}.",
        "From that day on, {h} came back to {o} every year.",
        "{H} lived happily near {o} ever after.",
        "And {h} never forgot {o}.",
    ),
}

# For a story about one topic alone.
ALONE = (
    (
        "{H} wanted to fly like a bird.",
        '"I will try and try again," said {h}.',
        "In the end, {h} flew in a dream, over the sea and the hills.",
    ),
    (
        "{H} had no friends and felt alone.",
        "Then {h} began to help others every day.",
        "Soon {h} had more friends than stars in the sky.",
    ),
    (
        "One night, {h} could not sleep.",
        "The wind sang softly, and the moon looked in.",
        "Then {h} closed both eyes and slept until morning.",
    ),
    (
        "{H} planted a seed and gave it water.",
        "Day after day nothing happened, but {h} waited.",
        "One morning there was a red flower.",
    ),
    ("{H} got lost in the rain.", "A small light shone far away.", "{H} followed the light and found the way home."),
)
ALONE_ENDINGS = (
    "And {h} was happy.",
    "{H} smiled and was never sad again.",
    "That is the story of {h}.",
    "Everyone loved {h} very much.",
)
