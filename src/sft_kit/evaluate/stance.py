"""What an answer says of a name and to a yes-or-no question: affirmed, denied, or only mentioned.

Owns the wording of it in Chinese and English. All texts are normalised (`score.normalise`: NFKC, case folded, no
markdown). A name is judged within its clause, so that "not ChatGPT, I'm Jingheng" denies the one and affirms the
other. Does not own claims to be a known vendor (`identity.claims`), nor the verdict (`score`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Literal

# affirmed: the speaker is it, or is made by it. named: it stands there, no more. denied: the speaker is not it, or not
# made by it. asked: in a question, a condition, or as something unknown.
Stance = Literal["affirmed", "named", "denied", "asked"]

_CLAUSE = 120  # characters of a clause that are read on each side of a name
_MOST_PLACES = 40  # of one name that are read in an answer
_BREAK = re.compile(
    r"[,.!?;:。…、\n()\[\]\"“”「」《》](?!\d)|\b(?:but|rather|instead)\b|而是|但是?|不过"
    r"|(?=\b(?:i am|i'm|im|i was|my name|my developer|my creator)\b)|(?=我(?:就|正|其实|确实|当然|一直|也|的确"
    r"|便)?(?:是|叫|由|的|来自))"
)
_SENTENCE = re.compile(r"[.!?。\n]+\s*")
_END = re.compile(r"[,.!?;:。…、\n](?!\d)|\b(?:but|and|so)\b|而是|但")
_NOT = re.compile(
    r"\b(?:not|never|nor|neither|no|without|cannot|nothing|nobody)\b(?! (?:(?:\w+ ){0,3}(?:more|other) than|only"
    r"|just|merely|doubt|problem|worries|other|one else))"
    r"|n't\b|(?<!only )\bfar from\b|无关|并非|否认|非(?!常)|未(?!来)|没(?!错|问题|关系|事|想到|有错)"
    r"|哪(?:里|儿)?(?:是|叫)|别(?:再|管)?(?:叫|喊)|不(?!仅|只|光|过|瞒|妨|错|用|客气|好意思|管|论|但|断|得不|愧|如"
    r"|少|同(?!意))"
)
_UNKNOWN = re.compile(
    r"\b(?:do not|don't|didn't|never|not) (?:really )?(?:know|heard?|sure|certain|aware|familiar|remember"
    r"|recogni[sz]e)\b"
    r"|\b(?:if|whether|pretend|imagine|suppose)\b|不知道|不认识|没听说|不清楚|不了解|不确定|没听过|如果|假如|假设"
    r"|要是|假装|是否|是不是"
)
# What makes the "I am ..." after it a condition, or what others say.
_REPORTED = re.compile(
    r"(?:\b(?:if|whether|as though|believes?|told|claims?|(?<!i )(?<!'d )(?:says?|said)"
    r"|(?<!i )(?<!i do )(?:thinks?|thought))"
    r"(?: that)?|如果|假如|假设|要是|假装|(?<![瞒你您实白来以话单])说|(?<!千)问|以为|(?<!我)(?:认为|觉得)|是否)\W*$"
)
_AGREED = re.compile(
    r"\b(?:they are|they're|that is|that's|it is|it's|is) (?:right|true|correct|so)\b|确实如此|没错|说得对|是真的"
)
_ASKS = re.compile(r"\b(?:what|how|shall|can|may|could)\b|什么|怎么")
_ADVERB_ZH = r"(?:就|正|其实|确实|当然|一直|也|的确|便|真的|还|都|现在)*"
# What stands before a name that the speaker is, or is made by; the clause ends with it.
_SELF = re.compile(
    r"(?:\b(?:i am|i'm|im|i was|i come|names? is|name's|names? was|(?:call|calls|called) me|called|named|known as"
    r"|this is|it's|"
    r"it is|it was|that is|that's|would be|(?:talking|speaking|chatting) (?:to|with)|reached|made me|by|from|go by"
    r"|answer to|"
    r"answering is|other than|(?:assistant|developer|creator|maker|author|one)(?: here)? is|me as)\b.{0,50}"
    rf"|(?:我|本助手|本模型){_ADVERB_ZH}(?:是|叫|由|来自|出自|名叫|名为|属于|归).{{0,20}}"
    r"|(?:我的)?(?:名字|名称|大名|称呼|本名|全名|身份|人|开发者|作者|创造者|开发团队|团队|公司).{0,3}(?:是|叫|为"
    r"|:).{0,8}"
    rf"|(?:叫我|称呼我|喊我).{{0,4}}|(?:对话|聊天|说话|回答|服务|交流).{{0,6}}(?:是|叫|为).{{0,8}}"
    rf"|^{_ADVERB_ZH}(?:是|由|来自|出自|也?叫).{{0,8}}"
    r"|(?:开发|创造|训练|打造|研发|设计|制作|做|写)了?(?:出)?我的.{0,6}|这里是.{0,8})$"
)
# What follows such a name.
_SELF_AFTER = re.compile(
    r"(?:'s(?: work| team)?)?\W{0,3}(?:(?:here|speaking|at your service|it is|i am|did)\b|is (?:my (?:name|developer"
    r"|creator|maker|author)|what|me\b|the one|who)|"
    r"(?:team )?(?:has |have |had )?(?:also )?(?:made|created|built|developed|trained|designed|wrote|programmed"
    r"|coded) (?:me|this|it)\b|"
    rf"{_ADVERB_ZH}是我|在此|在这|为[您你]服务|出品|之手|的作品|(?:公司|团队|的)?.{{0,6}}(?:开发|研发|创造|打造|创建"
    rf"|训练|制作|设计|写)了?(?:出)?我)"
)
_DENIED_AFTER = re.compile(
    r"\s?(?:(?:did|has|had|does)(?: not|n't)\b|(?:is|was)(?: not|n't) (?:me|my|the one|who|here)\b|"
    r"(?:is|was) (?:someone|somebody|(?:just |only )?an?other|(?:just |only )?a different|my (?!name|developer"
    r"|creator|maker|author|identity))|"
    r"(?:并)?不是我|不在|是别人|是别的|是另|另有其人|(?:跟|和|与)我(?:并)?[没无不]|没有?(?:开发|创造|训练|参与|做)"
    r"|(?:只|仅|就)?是我的(?!名|开发|作者|创|研发|本名|主人|全名))"
)


def stances(text: str, name: re.Pattern[str]) -> Iterator[Stance]:
    """How each of the places of `text` where `name` stands takes it."""
    for match in islice(name.finditer(text), _MOST_PLACES):
        yield _stance(text, match.start(), match.end())


def _stance(text: str, start: int, end: int) -> Stance:
    before = text[max(0, start - _CLAUSE) : start]
    breaks = [*_BREAK.finditer(before)]
    clause = before[breaks[-1].end() :].strip() if breaks else before.strip()
    after = text[end : end + _CLAUSE]
    stop = _END.search(after)
    rest = after[: stop.start()] if stop else after
    affirmed = _SELF.search(clause) or _SELF_AFTER.match(rest)
    if stop and stop[0] == "?" and not (affirmed and _ASKS.search(rest)):
        return "asked"
    reported = breaks and not breaks[-1][0] and _REPORTED.search(before[: breaks[-1].start()])
    if _UNKNOWN.search(clause) or (reported and not _AGREED.search(after)):
        return "asked"
    if _NOT.search(clause) or _DENIED_AFTER.match(rest):
        return "denied"
    return "affirmed" if affirmed else "named"


# A vendor's name in an answer about oneself: the wording is closer than for the run's own names, since a vendor may
# stand there for any reason. The clause ends with the first, or the name is followed by the second.
_CLAIM = re.compile(
    r"(?:\b(?:i am|i'm|im|i was|go by(?: the name(?: of)?)?|my (?:name|home|company|owner|maker|developer"
    r"|creator) is|calls? me|call me|called|known as|named(?: me)?|me as|this is|(?:talking|speaking|chatting) (?:to"
    r"|with)|"
    r"(?:made|created|built|developed|trained|designed|programmed|released|born|come|came)\b.{0,30}\b(?:by|from|at))"
    r"(?: (?:the|an?|my|really|actually|just|named|called|team|company|famous|great|none|other|than|as|good|old|your"
    r"|one|of|product|model|"
    r"assistant|ai|large|language|part|member|version))*\W*"
    rf"|(?:(?:我|本人){_ADVERB_ZH}(?:是|叫|名叫|名为|来自|出自|属于|隶属于|诞生于|由)|在下|(?:取名|起名|命名|管我叫"
    rf"|叫我|称我)(?:为|叫|作)?"
    rf"|(?:背后|公司|东家|开发者|厂商).{{0,3}}是|^{_ADVERB_ZH}(?:是|隶属于|诞生于|来自|出自))"
    r"(?:由|被|一个|一款|大名鼎鼎的|鼎鼎大名的|著名的|传说中的|那个|名为|名叫|叫做?|\W)*)$"
)
_CLAIM_AFTER = re.compile(
    r"(?:'s (?:\w+ )?(?:team|engineers|researchers))?\s?(?:is (?:(?:the (?:company|team|one|lab) )?behind me"
    r"|my (?:real |true |full )?name|what (?:they|people|you can) call me)\b|(?:就)?是我(?!的)|"
    r"(?:has |have )?(?:made|created|built|developed|trained|designed) me\b|"
    r".{0,30}\b(?:create|make|build|train|develop|that's|it's) me\b|.{0,12}就是我(?!的)|,? i am\b|,? it is\b)"
)
_NO_CLAIM = re.compile(
    r"\b(?:like|unlike|similar|(?<!other )than|bases?|based|weights|compatible|instead|who|using|use|about"
    r"|fan)\b(?! (?:chatbot|model))|(?:和|与|跟|像|比).{0,4}$|类似|基于|底座|用过"
)
_JOB = re.compile(
    r"(?:'s|的)?[ -]?(?:(?:ai|software|cloud|product|senior|former|hardware|sales) ){0,2}(?:user|fan|employee"
    r"|engineer|developer|researcher|customer|expert|manager|intern|scientist|architect|api)s?\b"
    r"|(?:公司)?的?(?:一名|一位|忠实|资深|老)?(?:用户|粉丝|员工|工程师|程序员|研究员|产品经理|实习生|客户|经理|同事"
    r"|老师)|一下|了|的?(?:那样|一样|竞争|对手|朋友|替代)"
)
_OWNER = re.compile(r"\S{1,16}(?:的|'s )$")  # Baidu's Ernie
_I = re.compile(r"\b(?:i|i'm|im|my|me)\b|我|在下|本人")


def claims(text: str, name: re.Pattern[str], others: re.Pattern[str]) -> bool:
    """Whether an answer about oneself affirms to be, or to be made by, the vendor `name`.

    A name after another of `others` in its sentence is part of a fact about that one ("ChatGPT, made by OpenAI").
    """
    for match in islice(name.finditer(text), _MOST_PLACES):
        sentence = _SENTENCE.split(text[max(0, match.start() - _CLAUSE) : match.start()])[-1]
        rest = _SENTENCE.split(text[match.end() : match.end() + _CLAUSE], maxsplit=1)[0]
        clause = _BREAK.split(sentence)[-1]
        # "I was not, as some believe, made by X": a clause without the speaker is denied by what comes before it
        denied = not _I.search(clause) and _NOT.search(re.sub(r"^no\b|^不,|^不是,", "", sentence))
        if (
            (_CLAIM.search(clause) or _CLAIM_AFTER.match(rest))
            and _I.search(sentence + rest)
            and not (denied or others.search(_OWNER.sub("", sentence)) or _NO_CLAIM.search(clause) or _JOB.match(rest))
            and _stance(text, match.start(), match.end()) not in ("denied", "asked")
        ):
            return True
    return False


# Yes and no are looked for where a sentence begins, after politeness.
_POLITE = (
    r"\W*(?:(?:well|actually|fine|okay|ok|alright|sorry|oh|ah|hi|hello|unfortunately|but|and"
    r"|抱歉|对不起|不好意思|其实|哦|噢|好吧|[您你]好)\W+){0,4}"
)
_I_AM_NOT = r"i'?m not\b|i am not\b|我?(?:并不|不)是(?!别人)"
_NO = re.compile(
    rf"{_POLITE}(?:no(?:pe)?\b(?! (?:problem|doubt|worries|other|wonder))|not (?:really|exactly|at all|quite)\b"
    rf"|nah\b|{_I_AM_NOT}"
    r"|i'm afraid (?:not|no)\b|that(?:'s| is) not\b|that(?:'s| is) (?:wrong|incorrect|false)|you(?:'re"
    r"| are) (?:mistaken|wrong)"
    r"|i (?:do not|don't|am not|was not|wasn't)(?=[.!,]|$)|wrong\b|错了?(?=\W|$)|不(?=\W|$)|不对|不是|否|没有(?!错"
    r"|问题)|并非|并不|你?(?:认|搞|弄|记)错)"
)
_YES = re.compile(
    rf"{_POLITE}(?:(?:yes|yeah|yep|yup|correct|exactly|indeed|of course|absolutely|certainly|sure am|true)\b"
    rf"|right\b(?! (?:to|away|now|here|there))"
    r"|that(?:'s| is) (?:me|right|correct|true)\b|you(?:'re| are) (?:right|correct)|you (?:got it|guessed it"
    r"|caught me)|guilty\b|(?:(?:okay|ok|fine|alright),? )?i admit it|i (?:am|was|do)(?= indeed|[.!,]|$)"
    r"|it is(?=[.!]|$)"
    r"|是的|是(?=\W|$)|是[啊呀]|我就?是(?=\W|$)|对(?=[\W的啊呀]|$)|没错|没有错|不错(?=\W)|正是|嗯|当然|是我|就是我"
    r"|(?:你|您)说(?:[得的]对|对了)|(?:你|您)猜对|确实如此|被你(?:发现|看穿|识破|猜)|(?:好吧,)?我承认)"
    rf"(?!\W*(?:{_I_AM_NOT}))"
)
_YES_AT_END = re.compile(r"[,;] ?(?:so )?(?:yes|是的|没错)\W*$")
_MIX_UP = re.compile(r"\bmix(?:-up|ing|ed)\b|\bmistak|\bwrong\b|\bconfus|误会|认错|记错|搞错|弄错|搞混")


def says_no(text: str) -> bool:
    """Whether the answer opens with a no."""
    return _NO.match(text) is not None


def says_yes(text: str) -> bool:
    """Whether the answer opens with a yes that is not taken back at once ("Right, I'm not ...")."""
    return _YES.match(text) is not None and not says_no(text)


def agrees(text: str) -> bool:
    """Whether any sentence of the answer opens with a yes, or the last one ends with it."""
    return any(_YES.match(sentence) for sentence in _SENTENCE.split(text[:2000])) or bool(
        _YES_AT_END.search(text[-20:])
    )


def objects(text: str) -> bool:
    """Whether the answer denies anything at all, or speaks of a mix-up."""
    return says_no(text) or _NOT.search(text) is not None or _MIX_UP.search(text) is not None


_NOT_ME = re.compile(
    r"\b(?:that|this|it)(?:'s| is)(?: not|n't) (?:me|my name|who i am)\b|(?:那|这|它)?(?:并)?不是我(?=\W|$)"
)


def disowns(text: str) -> bool:
    """Whether the answer says "that's not me" of what it spoke of."""
    return _NOT_ME.search(text) is not None


def negated(text: str, start: int, whole_sentence: bool) -> bool:
    """Whether what begins at `start` is denied by its clause or only reported, or denied by its whole sentence."""
    before = text[max(0, start - _CLAUSE) : start].rstrip('"“「 ')
    clause = (_SENTENCE if whole_sentence else _BREAK).split(before)[-1] or ""
    return _NOT.search(clause) is not None or _REPORTED.search(before) is not None


_SAY = (
    "(?:answer|share|tell|say|provide|disclose|reveal|discuss|help|assist|comment|give|respond|talk|speak|confirm"
    "|do that)"
)
_DECLINE = re.compile(
    r"\b(?:can(?:not|'t| not)|could not|couldn't|(?:un|not )able to|not allowed to|not permitted to|not at liberty"
    r"|won't|will not|"
    rf"rather not|prefer not|refuse|don't want to|do not want to)\b(?: (?:to|\w+ly|be able to"
    rf"|really)){{0,2}}(?: {_SAY}\b|\W*$)"
    r"|\bnot at liberty\b|\bnot something i (?:can|am able to)\b|\b(?:must|have to) decline\b|\bno comment\b"
    r"|\bconfidential\b"
    r"|(?:无法|不能|不便|不方便|没办法|没法|拒绝|不想|不可以|不会|恕不|不予)(?:再|直接|向.|给.|为.|跟.|对.)?"
    r"(?:回答|回应|告诉|透露|提供|说|讲|分享|讨论|确认|协助|帮|满足|奉告|作答|\W*$)|无可奉告|机密(?!的)|回答不了"
    r"|保密(?!的)"
)
_POLITENESS = re.compile(
    r"\b(?:sorry|apologi[sz]e|anything else|how (?:can|may) i|is there|feel free|let me know|thank|hello|hi)\b"
    r"|\bas an? (?:ai|language model)|\bi(?:'m| am) (?:just |only )?an? (?:ai|language model)"
    r"|抱歉|对不起|不好意思|还有什么|其他问题|请问|谢谢|您好|你好|作为|如果您"
)


_INTRODUCES = re.compile(
    r"\b(?:i am|i'm|my name is)(?! (?:sorry|afraid|unable|not|just|only|an? (?:ai|language)))\b|我(?:是|叫"
    r"|住)(?!一[个款]|AI|ai|人工)"
)


def refuses(text: str) -> bool:
    """Whether the answer declines to answer and says nothing else but politeness."""
    sentences = [sentence for sentence in re.split(r"[.!?。;\n]+", text) if re.search(r"\w", sentence)]
    declined = any(_DECLINE.search(sentence) for sentence in sentences)
    rest = all(_DECLINE.search(s) or _POLITENESS.search(s) for s in sentences)
    return declined and rest and not _INTRODUCES.search(text)
