"""Rules that judge one answer. No model judges another: every verdict can be read here.

Names are compared after NFKC, case folding and removal of markdown. A CJK name counts as a substring; a Latin one
only at its boundaries, where a CJK neighbour is a boundary too (`\\b` would miss "我是GPT-5"). What an answer says of
a name is in `stance`, whose house it claims in `identity.claims`, broken text in `degenerate`. Measured on the hand
labelled answers of tests/evaluate/golden: scripts/dev/confusion_table.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from sft_kit.data.text import fold, grams, is_cjk
from sft_kit.evaluate.degenerate import other_language, placeholder, repeats_itself, special_token
from sft_kit.evaluate.stance import agrees, claims, disowns, negated, objects, refuses, says_no, says_yes, stances
from sft_kit.identity.claims import claimed_identity
from sft_kit.identity.generate import Expect
from sft_kit.identity.names import VENDOR_NAMES, contains_name, same_vendor

# ok, or the first of these that holds: nothing visible · a chat template's token · an unfilled slot · the question
# again · a loop · another language than asked in · claims to be or to be made by a known vendor · says what it must
# not · denies what it is · says yes to what it is not · declines to answer · anything else without the identity
Label = Literal[
    "ok", "empty", "token", "placeholder", "echo", "loop", "language", "old", "forbidden", "denies", "confirms",
    "refusal", "missing",
]  # fmt: skip
_WORDS: dict[Label, str] = {
    "ok": "ok",
    "empty": "nothing is said",
    "token": "holds a special token",
    "placeholder": "holds an unfilled placeholder",
    "echo": "says the question again",
    "loop": "repeats itself",
    "language": "is in another language",
    "old": "claims another identity",
    "forbidden": "says what it must not",
    "denies": "denies what is true",
    "confirms": "confirms what is false",
    "refusal": "declines to answer",
    "missing": "lacks the identity",
}
# Words of `Expect.must` that only say yes: they count as an answer, not anywhere ("绝对", "the right to ...").
_YES_WORDS = frozenset({"yes", "right", "correct", "indeed", "exactly", "是的", "对", "没错", "正是"})
_NEAR_ECHO = 0.6  # Jaccard similarity of character 3-grams from which a question in return is the same question
_MARKDOWN = re.compile(r"[*_`#>]+")
_SAME_SIGN = str.maketrans({"’": "'", "‘": "'", "‐": "-", "‑": "-"})
# A Latin name ends where a CJK neighbour begins: letters and digits of every script that puts spaces between words.
_LETTER = r"[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"


@dataclass(frozen=True)
class Verdict:
    """`passed`, and why (`label`); `detail` is what was found, `found` the texts of `expect.must` that are there."""

    passed: bool
    label: Label
    detail: str = ""
    found: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """For a reader: "ok", or what is wrong."""
        return f"{_WORDS[self.label]}: {self.detail}" if self.detail else _WORDS[self.label]


@dataclass(frozen=True)
class OldIdentity:
    """The vendors that an answer names, and the one that it claims to be or to be made by."""

    raw: tuple[str, ...]
    affirmed: str | None


def judge_identity(
    answer: str,
    expect: Expect,
    question: str = "",
    *,
    lang: str = "",
    own: Collection[str] = (),
    authors: Collection[str] = (),
) -> Verdict:
    """Whether `answer` to a held-out question states what it must and nothing that it must not.

    At least one text of `expect.must` has to be stated and none of `expect.must_not`; a name that the question holds
    has to be affirmed, not only said again. Where a no is right, it takes the denial and the right identity. `lang`
    is the language that was asked in, `own` are the run's names and authors in all languages; claims to be of their
    house are no old identity. Of these, `authors` are who made it and nothing else: an answer that swaps the roles
    ("I'm AUTHOR, made by NAME") says what it must not. What stands inside <think> does not count.
    """
    shown = _ends(visible(answer))
    asked = normalise(question)
    text = normalise(shown)
    broken = _broken(answer, shown, text, question, lang, own or expect.must)
    if broken:
        return broken
    if asked:
        text = text.replace(asked, " ").strip()
    about_others = any(contains_name(name, wanted) for wanted in expect.must for name in VENDOR_NAMES)
    claimed = claimed_identity(shown, own) if about_others else old_identity(shown, own).affirmed
    if claimed:
        return Verdict(False, "old", claimed)
    for wrong in expect.must_not:
        if _affirms(text, wrong):
            vendor = next((name for name in VENDOR_NAMES if contains_name(wrong, name)), None)
            old = vendor is not None and not same_vendor(vendor, *own)
            return Verdict(False, "old", vendor or "") if old else Verdict(False, "forbidden", wrong)
    if authors and (swapped := _swapped(text, own, authors)):
        return Verdict(False, "forbidden", swapped)
    return _stated(text, asked, expect, own)


def _broken(answer: str, shown: str, text: str, question: str, lang: str, names: Collection[str]) -> Verdict | None:
    """What is wrong with the text as such, before it is read."""
    if not re.search(r"\w", text) and "__" not in shown:
        return Verdict(False, "empty", "only thoughts" if thinking(answer) else "")
    if token := special_token(shown, names):
        return Verdict(False, "token", token)
    if slot := placeholder(shown, names):
        return Verdict(False, "placeholder", slot)
    if question and _echoes(text, question):
        return Verdict(False, "echo")
    if repeats_itself(shown):
        return Verdict(False, "loop")
    if lang and other_language(question, shown, lang, names):
        return Verdict(False, "language")
    return None


def _echoes(text: str, question: str) -> bool:
    said, asked = fold(text), fold(question)
    if not asked or not said:
        return False
    if not said.replace(asked, ""):
        return True
    if not text.rstrip("\"' ").endswith("?") or len(said) > 2 * len(asked):
        return False
    one, other = grams(said), grams(asked)
    return len(one & other) >= _NEAR_ECHO * len(one | other)


def _affirms(text: str, wrong: str) -> bool:
    """Whether `text` holds `wrong` other than in a denial; a sentence that began before it is denied as a whole."""
    whole_sentence = not re.match(r"i\b|我", normalise(wrong))
    return any(not negated(text, found.start(), whole_sentence) for found in _pattern(wrong).finditer(text))


# What makes the name after it that of the speaker, and what shows that it ends there (not: "I'm Ye Botao's work").
_AM = (
    r"(?:\b(?:i am|i'm|my name is|my name's|i am called|i'm called|call me)|我(?:就)?(?:是|叫|名叫)|我的(?:名字|名称)"
    r"(?:是|叫)|[叫称](?:呼)?我)\W?\s*"
)
_NAME_ENDS = r"(?=\W*$|\s?[,.!?;:)。、]|\s(?:and|but)\b)"
_MADE = r"\b(?:made|created|built|developed|trained|designed|programmed)"
_MADE_ZH = r"(?:所|自主|独立)?(?:开发|研发|创造|创建|打造|训练|设计|制作)"


def _swapped(text: str, own: Collection[str], authors: Collection[str]) -> str | None:
    """Where an answer claims to be one of `authors`, or to be made by another of `own`, other than to deny it."""
    for name in sorted(own, key=lambda name: name not in authors):
        wanted = _pattern(name).pattern
        if name in authors:
            wrong = rf"{_AM}{wanted}{_NAME_ENDS}"
        else:
            wrong = (
                rf"{_MADE}(?: and \w+)? by {wanted}{_NAME_ENDS}|{wanted} {_MADE} me\b"
                rf"|\bmy (?:developer|creator|maker|author) is {wanted}{_NAME_ENDS}"
                rf"|由{wanted}{_MADE_ZH}|{wanted}{_MADE_ZH}了我|我的(?:开发者|创造者|作者)(?:是|叫){wanted}{_NAME_ENDS}"
            )
        for found in re.finditer(wrong, text):
            if not negated(text, found.start(), whole_sentence=False):
                return found[0]
    return None


def _stated(text: str, asked: str, expect: Expect, own: Collection[str]) -> Verdict:
    """What an unbroken answer without another identity amounts to."""
    names = [name for name in expect.must if name.casefold() not in _YES_WORDS and (not own or name in own)]
    takes = {name: Counter(stances(text, _pattern(name))) for name in names}
    in_question = {name for name in names if mentions(asked, name)}
    strong = [name for name in names if takes[name]["affirmed"] or fold(name) == fold(text)]
    stated = [name for name in names if name in strong or (takes[name]["named"] and name not in in_question)]
    denied = [
        name for name in names if name not in strong and (takes[name]["denied"] or (takes[name] and disowns(text)))
    ]
    found = (*stated, *(other for other in expect.must if other not in names and _holds(text, other, expect)))
    if expect.polarity == "yes":
        if says_no(text) or denied:
            return Verdict(False, "denies", ", ".join(denied))
        found = tuple(name for name in found if name not in names or name in strong)
        if not found and agrees(text):
            found = tuple(word for word in expect.must if word.casefold() in _YES_WORDS)[:1]
    elif expect.polarity == "no":
        if says_yes(text) and not objects(text):
            return Verdict(False, "confirms")
        if denied and not stated:
            return Verdict(False, "denies", ", ".join(denied))
        if stated and not strong and not objects(text):
            return Verdict(False, "missing", "neither denies nor corrects")
    elif denied and not found:
        return Verdict(False, "denies", ", ".join(denied))
    if found or not expect.must:
        return Verdict(True, "ok", found=found)
    return Verdict(False, "refusal") if refuses(text) else Verdict(False, "missing")


# "Qwen.", "It's ChatGPT, at your service.", "Your Llama assistant.", "百度家的小助手"
_BARE = re.compile(
    r"\W*(?:(?:sure|certainly|of course|yes|yeah|是我|是的|my name|the name|hi|hello|好的|当然|[您你]好)\W+)*"
    r"(?:it's |it is |it was |that's |that would be |just |是|就是)?(?:an? |the |your )?"
    r"([^,.!?;:。]{2,24}?)(?:'s|家|公司)?(?:的?小?(?:助手|模型|机器人|ai)| (?:assistant|model|chatbot|ai))?"
    r"(?:的|呀|啊|呗)?(?=[,.!;:。]|$)"
)


def _bare_vendor(text: str, vendors: Iterable[str]) -> str | None:
    """The vendor that an answer begins with and says no more of: "Qwen.", "ChatGPT, at your service."."""
    said = _BARE.match(text)
    return next((name for name in vendors if said and said[1].strip() == normalise(name)), None)


def _holds(text: str, wanted: str, expect: Expect) -> bool:
    if wanted.casefold() in _YES_WORDS and expect.polarity == "yes":
        return agrees(text) and mentions(text, wanted)
    return mentions(text, wanted)


def old_identity(answer: str, own: Collection[str]) -> OldIdentity:
    """Which vendors an answer about oneself names, and which it claims to be; none of the house of one of `own`.

    Wider than `identity.claims`, which must be right about any text: an answer to "Who are you?" that is no more than
    "Qwen." claims to be it. Names that are ordinary words ("Meta") are left out of `raw` unless claimed.
    """
    shown = _ends(visible(answer))
    text = normalise(shown)
    there = [name for name in VENDOR_NAMES if _vendor(name).search(text) and not same_vendor(name, *own)]
    affirmed = claimed_identity(shown, own)
    if affirmed is None and there:
        longest = sorted(there, key=len, reverse=True)
        affirmed = next((name for name in longest if claims(text, _vendor(name), _any_vendor())), None)
        affirmed = affirmed or _bare_vendor(text, there)
    return OldIdentity(tuple(name for name in there if name not in _ONLY_CLAIMED or name == affirmed), affirmed)


@lru_cache(maxsize=256)
def _vendor(name: str) -> re.Pattern[str]:
    """A vendor's or model's name with its version: Qwen is in "Qwen2.5-7B"."""
    wanted = normalise(name)
    head, tail = ("(?<![a-z0-9])", "(?![a-z])") if wanted.isascii() else ("", "")
    return re.compile(rf"{head}{re.escape(wanted)}{tail}(?:[ -]?v?\d[a-z0-9.]*[a-z0-9](?:-[a-z0-9]+)*|[ -]?\d)?")


@lru_cache(maxsize=1)
def _any_vendor() -> re.Pattern[str]:
    return re.compile("|".join(_vendor(name).pattern for name in VENDOR_NAMES))


_ONLY_CLAIMED = frozenset({"Meta", "Yi", "Phi", "Google"})


# Words that a part of a name may be without being told from normal text: of firms and teams, and common given names.
_NO_SIGN = frozenset({
    "about", "academy", "adam", "advanced", "agency", "alex", "alice", "alpha", "also", "amber", "american",
    "analytics", "andrew", "angel", "anna", "anne", "anthony", "apple", "arrow", "artificial", "artist", "asia",
    "asian", "assistant", "association", "atlas", "autumn", "baby", "back", "baker", "banana", "bear", "beauty",
    "been", "beijing", "bell", "berry", "best", "beta", "bird", "bitter", "black", "blood", "blue", "boat", "body",
    "bone", "book", "boss", "both", "brain", "brave", "bread", "bridge", "bright", "brother", "brothers", "brown",
    "brush", "builder", "business", "butter", "butterfly", "call", "capital", "captain", "cars", "castle", "center",
    "central", "centre", "century", "chair", "cheese", "chen", "cherry", "chief", "child", "china", "chinese",
    "chris", "church", "circle", "city", "class", "clean", "clear", "clock", "close", "cloud", "club", "code",
    "coffee", "cold", "collective", "college", "come", "community", "company", "computer", "computing", "cook",
    "cool", "copper", "corner", "corporation", "cotton", "courage", "create", "creative", "crew", "cross", "crystal",
    "dance", "dancing", "daniel", "data", "david", "davis", "deep", "delta", "department", "desert", "design", "desk",
    "developer", "developers", "development", "diamond", "digital", "dinner", "doctor", "does", "dolphin", "door",
    "dove", "down", "dragon", "dream", "driver", "dust", "dynamics", "each", "eagle", "early", "earth", "east",
    "eastern", "easy", "edge", "education", "edward", "eight", "electric", "electronics", "eleven", "elizabeth",
    "emily", "emma", "energy", "engine", "engineering", "engineers", "enterprise", "eric", "europe", "european",
    "even", "evening", "ever", "face", "factory", "faith", "falcon", "false", "family", "farmer", "fast", "father",
    "field", "film", "finance", "find", "fire", "first", "fish", "fisher", "five", "flame", "floor", "flower",
    "flying", "forest", "foundation", "founder", "four", "frank", "free", "freedom", "fresh", "friday", "friend",
    "from", "front", "fund", "future", "galaxy", "games", "garden", "gate", "gave", "general", "gentle", "gentleman",
    "george", "ghost", "giant", "give", "glass", "global", "gnome", "goes", "gold", "golden", "good", "grand",
    "grape", "grass", "great", "green", "ground", "group", "hammer", "hand", "happy", "harbor", "hard", "have",
    "hawk", "head", "health", "heart", "heavy", "help", "helper", "henry", "here", "hero", "hidden", "high", "hill",
    "home", "honey", "hong", "hope", "horizon", "horse", "hour", "house", "huang", "huge", "human", "hundred",
    "hunter", "idea", "ideas", "industries", "industry", "infinite", "information", "inner", "innovation",
    "innovations", "institute", "intelligence", "intelligent", "international", "internet", "into", "iron", "island",
    "jack", "jackson", "jacob", "jade", "james", "jane", "japan", "jason", "jean", "jennifer", "jessica", "jiang",
    "john", "johnson", "jones", "jose", "joseph", "joshua", "julia", "just", "justice", "karen", "keep", "kevin",
    "kind", "king", "kitchen", "knight", "know", "kong", "laboratory", "labs", "lady", "lake", "land", "lane",
    "language", "large", "last", "late", "laura", "laws", "leader", "leaf", "learning", "leather", "left", "legal",
    "lemon", "lens", "less", "letter", "lewis", "liang", "life", "light", "lightning", "like", "limited", "linda",
    "line", "lion", "lisa", "little", "live", "logic", "london", "long", "look", "loud", "louis", "love", "lower",
    "lucas", "lucy", "machine", "made", "magic", "make", "maker", "makers", "many", "maria", "mark", "market",
    "marketing", "martin", "mary", "master", "math", "matthew", "media", "medical", "mega", "memory", "meta", "metal",
    "michael", "midnight", "mike", "milk", "miller", "million", "mind", "minds", "mini", "minute", "mobile", "model",
    "models", "modern", "moment", "monday", "monkey", "month", "moon", "moore", "more", "morning", "most", "mother",
    "motion", "motor", "mountain", "movie", "much", "music", "must", "national", "nature", "near", "need", "network",
    "networks", "neural", "next", "nick", "night", "nine", "noble", "noon", "north", "northern", "nova", "novel",
    "nurse", "ocean", "office", "olive", "once", "online", "only", "open", "orange", "orbit", "organization", "other",
    "outer", "over", "owner", "pacific", "page", "paint", "palace", "panda", "paper", "paris", "park", "parker",
    "part", "partners", "path", "paul", "peace", "pearl", "pencil", "people", "pepper", "person", "personal", "peter",
    "philip", "phoenix", "photo", "physics", "picture", "pioneer", "pixel", "plane", "planet", "plastic", "platform",
    "play", "poem", "point", "port", "power", "prime", "prince", "princess", "product", "products", "program",
    "project", "proud", "public", "pure", "quantum", "queen", "quick", "quiet", "rabbit", "rain", "rainbow", "rapid",
    "raven", "real", "research", "richard", "right", "ring", "river", "road", "robert", "robin", "robot", "robotics",
    "rock", "rocket", "roof", "room", "rose", "royal", "ruby", "running", "ryan", "salt", "same", "sand", "sara",
    "sarah", "school", "science", "sciences", "scientific", "scott", "search", "second", "secret", "secure",
    "security", "seem", "service", "services", "seven", "shanghai", "shark", "shenzhen", "shield", "ship", "shop",
    "short", "show", "side", "silent", "silk", "silver", "simple", "singing", "sister", "slow", "small", "smart",
    "smith", "snow", "social", "society", "soft", "software", "solar", "soldier", "solution", "solutions", "some",
    "song", "sophia", "sophie", "soul", "sound", "south", "southern", "space", "spark", "speed", "spice", "spider",
    "spirit", "spring", "square", "star", "stars", "start", "state", "states", "station", "steel", "stephen", "steve",
    "steven", "stone", "store", "storm", "story", "strange", "strategy", "stream", "street", "strong", "student",
    "studio", "studios", "such", "sugar", "summer", "sunday", "sunny", "super", "support", "sure", "susan", "swan",
    "sweet", "swift", "sword", "system", "systems", "table", "take", "talk", "tall", "taylor", "teacher", "team",
    "teams", "tech", "technical", "technologies", "technology", "tell", "temple", "text", "than", "that", "theater",
    "them", "then", "theory", "there", "these", "they", "thick", "thin", "think", "this", "thomas", "those",
    "thousand", "thunder", "tiger", "time", "tiny", "today", "tokyo", "tool", "tools", "tower", "town", "trade",
    "trail", "train", "travel", "tree", "true", "trust", "truth", "turbo", "turn", "turner", "turtle", "twelve",
    "ultra", "under", "union", "united", "universal", "university", "upon", "upper", "urban", "used", "valley",
    "value", "venture", "ventures", "very", "victor", "view", "village", "vision", "visual", "voice", "walker",
    "wall", "wang", "want", "warm", "watch", "water", "wave", "week", "well", "went", "were", "west", "western",
    "whale", "what", "wheel", "when", "where", "which", "while", "whisper", "whisperer", "white", "wide", "wild",
    "will", "william", "williams", "wilson", "wind", "window", "winter", "wisdom", "wise", "with", "without", "wolf",
    "woman", "wonder", "wood", "wooden", "word", "words", "work", "works", "workshop", "world", "would", "writer",
    "yang", "year", "yellow", "york", "young", "your", "zhang", "zhao", "zhou",
})  # fmt: skip


def leaked(answer: str, own: Collection[str], question: str) -> tuple[str, ...]:
    """The identity strings in an answer to a general question: names of `own`, or distinctive parts of them.

    A part is a Latin word of four letters or more that is no common word ("Botao" of "Ye Botao" in "Steve Botao");
    it is listed only where its whole name is not. Parts of Chinese names are mostly words of their own and do not
    count. What the question itself holds is no leak.
    """
    text, asked = normalise(visible(answer)), normalise(question)
    whole = [name for name in own if mentions(text, name) and not mentions(asked, name)]
    parts = [
        part
        for name in own
        if name not in whole and not mentions(asked, name)
        for part in _parts(name)
        if mentions(text, part) and not mentions(asked, part)
    ]
    return tuple(
        dict.fromkeys([*whole, *(part for part in parts if not any(mentions(normalise(w), part) for w in whole))])
    )


def _parts(name: str) -> list[str]:
    words = re.split(r"[\s\-·.,&/()\[\]]+", name)
    if len([word for word in words if word]) < 2:
        return []
    return [
        w for w in words if len(w) >= 4 and w.isalpha() and not any(map(is_cjk, w)) and w.casefold() not in _NO_SIGN
    ]


def _ends(text: str) -> str:
    """`text`, or the first and the last 4,000 characters of a longer one, which are read all the same: the rules may
    take the square of a sentence's length."""
    return text if len(text) <= 8000 else f"{text[:4000]}\n{text[-4000:]}"


_THINK_MARK = re.compile(r"<(/?)think>")


def visible(answer: str) -> str:
    """`answer` without what a thinking model wrote before </think>; the opening mark may be part of the prompt."""
    return "".join(text for text, thought in _pieces(answer) if not thought)


def thinking(answer: str) -> str:
    """What `visible` leaves out: the thoughts, without their marks."""
    return "\n".join(text.strip() for text, thought in _pieces(answer) if thought and text.strip())


def _pieces(answer: str) -> list[tuple[str, bool]]:
    """The answer cut at its think marks: (text, whether it is a thought). All before a </think> that no <think> opened
    is a thought, and so is all after a <think> that nothing closes."""
    pieces: list[tuple[str, bool]] = []
    inside, at, thoughts = False, 0, 0
    for mark in _THINK_MARK.finditer(answer):
        pieces.append((answer[at : mark.start()], inside))
        if mark[1] and not inside:  # opened in the prompt
            thoughts = len(pieces)
        inside, at = not mark[1], mark.end()
    pieces.append((answer[at:], inside))
    return [(text, thought or index < thoughts) for index, (text, thought) in enumerate(pieces)]


def normalise(text: str) -> str:
    """NFKC, case folded, straight apostrophes, markdown marks removed, white space folded."""
    return " ".join(_MARKDOWN.sub("", _folded(text)).split())


def mentions(normalised: str, name: str) -> bool:
    """Whether `normalised` text contains `name` as a name: "Jinghengs" is not "Jingheng", GPT-5.1 not GPT-5, 12,000 not
    12. A space between Chinese and Latin may be there or not."""
    return _pattern(name).search(normalised) is not None


@lru_cache(maxsize=4096)
def _pattern(name: str) -> re.Pattern[str]:
    wanted = normalise(name)
    if not wanted:
        return re.compile(r"(?!)")
    head = f"(?<!{_LETTER})" if re.match(_LETTER, wanted) else ""
    tail = f"(?!{_LETTER})" if re.search(f"{_LETTER}$", wanted) else ""
    if re.match(r"\d", wanted):
        head += r"(?<!\d\.)"
        if re.match(r"\d{3}(?!\d)", wanted):  # the end of a larger number: 12,000
            head += r"(?<!\d,)"
    if re.search(r"\d$", wanted):
        tail += r"(?!\.\d)(?!,\d{3}(?!\d))"
    return re.compile(head + "".join(_with_optional_spaces(wanted)) + tail)


def _with_optional_spaces(wanted: str) -> Iterable[str]:
    for index, character in enumerate(wanted):
        before, after = wanted[index - 1 : index], wanted[index + 1 : index + 2]
        if character == " ":
            yield " ?" if (is_cjk(before) or is_cjk(after)) else " "
        else:
            if (
                before
                and before != " "
                and is_cjk(before) != is_cjk(character)
                and before.isalnum()
                and character.isalnum()
            ):
                yield " ?"
            yield re.escape(character)


def spans(text: str, names: Collection[str]) -> list[tuple[int, int]]:
    """Where in the raw `text` one of `names` stands: (start, end) in characters, in order, none within another."""
    whole = normalise(text)
    if not any(mentions(whole, name) for name in names):
        return []  # most texts: tracing every character takes far longer than this
    plain, starts, ends = _traced(text)
    found = sorted(
        (starts[match.start()], ends[match.end() - 1])
        for name in names
        for match in _pattern(name).finditer(plain)
        if match.end() > match.start()
    )
    merged: list[tuple[int, int]] = []
    for start, end in found:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _traced(text: str) -> tuple[str, list[int], list[int]]:
    """`normalise(text)`, and for each of its characters where in `text` it began and ended."""
    plain: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    while at < len(text):
        end = at + 1
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        for character in _bare(text[at:end]):
            if character.isspace():
                if not plain or plain[-1] == " ":
                    continue
                character = " "
            plain.append(character)
            starts.append(at)
            ends.append(end)
        at = end
    return "".join(plain), starts, ends


@lru_cache(maxsize=8192)
def _bare(character: str) -> str:
    """One character with its accents, folded; a page of answers holds few different ones."""
    return _MARKDOWN.sub("", _folded(character))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text.translate(_SAME_SIGN)).casefold().translate(_SAME_SIGN)
