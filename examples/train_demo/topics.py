"""The topics of stories, and the pairs of topics that training never sees together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

Kind = Literal["agent", "thing", "place"]


@dataclass(frozen=True)
class Topic:
    """A topic of stories, in both languages; `measure` is its Chinese measure word."""

    en: str
    zh: str
    measure: str
    kind: Kind

    @property
    def a_en(self) -> str:
        """The English noun with its indefinite article."""
        return f"{'an' if self.en[0] in 'aeiou' else 'a'} {self.en}"

    @property
    def a_zh(self) -> str:
        """The Chinese noun with its number and measure word."""
        return f"一{self.measure}{self.zh}"

    def noun(self, language: str) -> str:
        """Return the bare noun in "en" or "zh"."""
        return self.en if language == "en" else self.zh


def _topics(kind: Kind, table: str) -> tuple[Topic, ...]:
    entries = (entry.split() for entry in table.split(";"))
    return tuple(Topic(en, zh, measure, kind) for en, zh, measure in entries)


AGENTS = _topics(
    "agent",
    """
    cat 猫 只; dog 狗 只; fox 狐狸 只; owl 猫头鹰 只; bear 熊 头; rabbit 兔子 只; mouse 老鼠 只; frog 青蛙 只;
    duck 鸭子 只; lion 狮子 头; horse 马 匹; monkey 猴子 只; elephant 大象 头; turtle 乌龟 只; panda 熊猫 只;
    wolf 狼 只; robot 机器人 个; dragon 龙 条; wizard 巫师 个; princess 公主 个; king 国王 个; pirate 海盗 个;
    farmer 农民 个; baker 面包师 个
    """,
)
THINGS = _topics(
    "thing",
    """
    lamp 灯 盏; kite 风筝 只; drum 鼓 面; clock 时钟 个; hat 帽子 顶; book 书 本; bell 铃铛 个; key 钥匙 把;
    balloon 气球 个; bicycle 自行车 辆; cake 蛋糕 块; umbrella 雨伞 把; mirror 镜子 面; boat 小船 条
    """,
)
PLACES = _topics(
    "place",
    """
    forest 森林 片; river 河 条; mountain 高山 座; castle 城堡 座; garden 花园 个; lighthouse 灯塔 座; island 小岛 座;
    village 村子 个; bridge 桥 座; cave 山洞 个
    """,
)
TOPICS = AGENTS + THINGS + PLACES


def is_held_out(a: Topic, b: Topic) -> bool:
    """Whether training never has these two together (about one pair in eight, in either order and both languages)."""
    pair = "+".join(sorted((a.en, b.en)))
    return hashlib.sha256(pair.encode()).digest()[0] % 8 == 0


def topic_pairs(held_out: bool) -> tuple[tuple[Topic, Topic], ...]:
    """Return every pair of different topics of one split."""
    return tuple(pair for pair in combinations(TOPICS, 2) if is_held_out(*pair) is held_out)
