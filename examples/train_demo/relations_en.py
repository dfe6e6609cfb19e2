"""The English relations: each fact's training phrasings, and phrasings kept for the evaluation."""

from __future__ import annotations

from examples.train_demo import fact_tables as tables
from examples.train_demo.relations import column, english, shifted

ENGLISH = (
    english(
        "capital",
        "The capital of {x} is {y}.",
        "what the capital of {x} is",
        """
        What is the capital of {x}? / What's the capital of {x}? / Which city is the capital of {x}? /
        Name the capital of {x}. / What is the capital city of {x}? / Tell me the capital of {x}. / capital of {x}
        """,
        """
        What city is the capital of {x}? / Do you know the capital of {x}? / Please name the capital city of {x}.
        """,
        pairs=column(tables.COUNTRIES, 0, 1),
    ),
    english(
        "country",
        "{x} is the capital of {y}.",
        "which country {x} is the capital of",
        """
        {x} is the capital of which country? / Which country has {x} as its capital? /
        {x} is the capital of what country? / Whose capital is {x}? / Which country's capital is {x}?
        """,
        """
        What country has {x} as its capital? / Of which country is {x} the capital? /
        Name the country whose capital is {x}.
        """,
        pairs=column(tables.COUNTRIES, 1, 0),
    ),
    english(
        "continent",
        "{x} is in {y}.",
        "which continent {x} is in",
        """
        Which continent is {x} in? / What continent is {x} in? / On which continent is {x}? /
        Name the continent of {x}. / {x} is in which continent? / What is the continent of {x}?
        """,
        """
        In which continent is {x}? / {x} is on which continent? / Do you know the continent of {x}?
        """,
        pairs=column(tables.COUNTRIES, 0, 2),
    ),
    english(
        "color",
        "The color of {x} is {y}.",
        "what color {x} is",
        """
        What color is {x}? / What colour is {x}? / What is the color of {x}? / Which color is {x}? /
        Name the color of {x}. / Tell me the color of {x}. / {x} is what color?
        """,
        """
        What's the color of {x}? / Which color does {x} have? / Do you know the color of {x}?
        """,
        pairs=column(tables.COLOURS, 0, 1),
    ),
    english(
        "opposite",
        "The opposite of {x} is {y}.",
        "what the opposite of {x} is",
        """
        What is the opposite of {x}? / What's the opposite of {x}? / Which word is the opposite of {x}? /
        opposite of {x} / Name the opposite of {x}. / Give me the opposite of {x}. / Tell me the opposite of {x}.
        """,
        """
        What word is the opposite of {x}? / Do you know the opposite of {x}? / Say the opposite of {x}.
        """,
        pairs=tables.OPPOSITES_EN,
    ),
    english(
        "sound",
        "{x} says {y}.",
        "what {x} says",
        """
        What does {x} say? / What sound does {x} make? / What is the sound of {x}? / Which sound does {x} make? /
        How does {x} sound? / {x} says what?
        """,
        """
        What noise does {x} make? / What's the sound of {x}? / Make the sound of {x}.
        """,
        pairs=column(tables.SOUNDS, 0, 1),
    ),
    english(
        "young",
        "A young {x} is called a {y}.",
        "what a young {x} is called",
        """
        What is a young {x} called? / What do you call a young {x}? / What is a baby {x} called? / Name a young {x}. /
        What is the name of a young {x}? / What do we call a baby {x}?
        """,
        """
        What do you call a baby {x}? / How is a young {x} called? / What's a baby {x} called?
        """,
        pairs=tables.YOUNG,
    ),
    english(
        "home",
        "{x} lives in a {y}.",
        "where {x} lives",
        """
        Where does {x} live? / Where is the home of {x}? / What is the home of {x}? / {x} lives where? /
        In what place does {x} live?
        """,
        """
        Where can {x} live? / What home does {x} have? / In which place does {x} live?
        """,
        pairs=column(tables.HOMES, 0, 1),
    ),
    english(
        "legs",
        "{x} has {y} legs.",
        "how many legs {x} has",
        """
        How many legs does {x} have? / How many legs has {x}? / What number of legs does {x} have? /
        {x} has how many legs? / Count the legs of {x}.
        """,
        """
        How many are the legs of {x}? / What is the number of legs of {x}? / How many legs are there on {x}?
        """,
        pairs=column(tables.LEGS, 0, 1),
    ),
    english(
        "job",
        "{x} {y}.",
        "what {x} does",
        """
        What does {x} do? / What is the job of {x}? / What is the work of {x}? / What work does {x} do? /
        {x} does what? / What does {x} do all day?
        """,
        """
        What job does {x} do? / What's the work of {x}? / What does {x} do every day?
        """,
        pairs=column(tables.JOBS, 0, 1),
    ),
    english(
        "use",
        "We use {x} to {y}.",
        "what we use {x} for",
        """
        What do we use {x} for? / What is {x} for? / What can you do with {x}? / What is the use of {x}? /
        Why do we need {x}? / What do people use {x} for?
        """,
        """
        What do you use {x} for? / What can we do with {x}? / For what do we use {x}?
        """,
        pairs=column(tables.USES, 0, 1),
    ),
    english(
        "kind",
        "{x} is a kind of {y}.",
        "what kind of thing {x} is",
        """
        What kind of thing is {x}? / What sort of thing is {x}? / {x} is a kind of what? /
        Which kind of thing is {x}? / {x} is what kind of thing?
        """,
        """
        What type of thing is {x}? / Of what kind is {x}? / What kind is {x}?
        """,
        pairs=column(tables.KINDS, 0, 1),
    ),
    english(
        "day after",
        "After {x} comes {y}.",
        "what day comes after {x}",
        """
        What day comes after {x}? / Which day comes after {x}? / What day is after {x}? / Which day follows {x}? /
        What comes after {x}?
        """,
        """
        Which day is after {x}? / What day follows {x}? / Name the day after {x}.
        """,
        pairs=shifted(tables.DAYS_EN, 1),
    ),
    english(
        "day before",
        "Before {x} comes {y}.",
        "what day comes before {x}",
        """
        What day comes before {x}? / Which day comes before {x}? / What day is before {x}? / What comes before {x}?
        """,
        """
        Which day is before {x}? / What is the day before {x}? / Name the day before {x}.
        """,
        pairs=shifted(tables.DAYS_EN, -1),
    ),
    english(
        "month after",
        "After {x} comes {y}.",
        "what month comes after {x}",
        """
        What month comes after {x}? / Which month comes after {x}? / What month is after {x}? /
        Which month follows {x}? / What comes after {x}?
        """,
        """
        Which month is after {x}? / What month follows {x}? / Name the month after {x}.
        """,
        pairs=shifted(tables.MONTHS_EN, 1),
    ),
    english(
        "amount",
        "There are {y} {x}.",
        "how many {x} there are",
        """
        How many {x} are there? / How many {x}? / What is the number of {x}? / Count the {x}. /
        There are how many {x}?
        """,
        """
        How many {x} do you count? / What number of {x} are there? / Give me the number of {x}.
        """,
        pairs=tables.AMOUNTS_EN,
    ),
    english(
        "meaning",
        "{x} is {y}.",
        "what {x} is",
        """
        What is {x}? / What's {x}? / What does the word {x} mean? / Explain what {x} is. / Explain {x} to me. /
        {x} is what?
        """,
        """
        What exactly is {x}? / Can you explain what {x} is? / Please explain {x} to me.
        """,
        pairs=column(tables.MEANINGS, 0, 1),
    ),
    english(
        "to Chinese",
        "The Chinese word for {x} is {y}.",
        "what {x} is in Chinese",
        """
        How do you say {x} in Chinese? / What is {x} in Chinese? / What is the Chinese word for {x}? /
        Say {x} in Chinese. / Translate {x} into Chinese. / What's the Chinese for {x}?
        """,
        """
        How do I say {x} in Chinese? / What's the Chinese word for {x}? / Please translate {x} into Chinese.
        """,
        pairs=column(tables.WORDS, 0, 1),
    ),
)
