"""Whom an answer claims to be, or to be made by, when that is a known vendor or one of its models.

Owns the wording of such claims in Chinese and English. A claim has the speaker for its subject and is affirmed: not
denied ("I'm not ChatGPT"), no condition or question ("if I were Claude"), not what others say, no fact about a third
party ("Qwen was made by Alibaba Cloud"), no job or taste ("I am a Google engineer"), no base model ("based on Qwen",
which may be true of any name), and not inside a quotation or a code block. The grammar is closed: between "I am" and
the name only known words may stand, so that what is not understood is no claim. Vendors come from
`names.VENDOR_HOUSES`. Does not judge whether an answer is right (`evaluate` does).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from functools import lru_cache

from sft_kit.data.pattern import Pattern
from sft_kit.identity.names import VENDOR_NAMES, same_vendor

# Spellings of a vendor that are not in the list of houses, each with the listed name that it stands for.
_SPELLINGS = {
    "Open AI": "OpenAI", "Chat GPT": "ChatGPT", "Chat-GPT": "ChatGPT", "Bard": "Gemini", "Ernie Bot": "文心一言",
    "书生浦语": "InternLM", "书生": "InternLM", "阿里": "阿里巴巴", "智谱清言": "智谱",
    "星火大模型": "讯飞星火", "HuggingFace": "Hugging Face",
}  # fmt: skip
_LISTED = {name.casefold(): name for name in VENDOR_NAMES} | {k.casefold(): v for k, v in _SPELLINGS.items()}
# Firms: "I am Google" is no way to say which assistant one is, "I am an assistant made by Google" is.
_FIRMS = frozenset({
    "alibaba", "阿里云", "阿里巴巴", "meta", "上海人工智能实验室", "智谱", "zhipu", "google", "deepmind",
    "谷歌", "hugging face",
    "openai", "anthropic", "microsoft", "微软", "moonshot", "月之暗面", "小米", "ibm", "百度", "baidu",
    "字节跳动", "bytedance",
    "腾讯", "tencent", "零一万物", "科大讯飞", "xai", "深度求索",
})  # fmt: skip
# Products that are people's names, animals or ordinary words too: alone they need an assistant in the same answer, or
# to end the sentence.
_ORDINARY = frozenset({
    "claude", "gemma", "gemini", "kimi", "phi", "yi", "mistral", "granite", "copilot", "llama", "grok", "豆包", "文心",
    "混元", "tongyi", "mimo", "书生", "bard", "moonshot",
})  # fmt: skip


def _one_name(name: str) -> str:
    before = r"(?<![A-Za-z0-9])" if name[0].isascii() else ""
    after = r"(?![A-Za-z])" if name[-1].isascii() else ""
    return before + re.escape(name) + after


_NAMES = "|".join(_one_name(name) for name in sorted({*VENDOR_NAMES, *_SPELLINGS}, key=len, reverse=True))
_W = "[a-z0-9_]"  # a version is written in ASCII: what follows it in Chinese is no part of it
_VERSION = (
    rf"(?:[ -]?(?:v|plus|max|turbo|pro|ultra|opus|sonnet|haiku)?[ -]?\d[a-z0-9_.]*{_W}(?:-[a-z0-9_.]*{_W})*"
    rf"|[ -]?\d{_W}?(?!{_W}))?"
)


@lru_cache(maxsize=1)
def _vendor() -> re.Pattern[str]:
    """A vendor's name with its version. Compiled at its first use, as are the claims: most answers need neither."""
    return re.compile(rf"({_NAMES}){_VERSION}", re.IGNORECASE)


# In a text to be judged each vendor stands as one character of the private use area, its version included; patterns
# stay short and fast, and no name is taken for a part of another.
_LISTED_NAMES = tuple(sorted(set(_LISTED.values())))
_FIRST = 0xE000
_V = f"[{chr(_FIRST)}-{chr(_FIRST + len(_LISTED_NAMES) - 1)}]"
_WHO = f"(?P<who>{_V})"
_OWNER = rf"(?:{_V}(?: cloud| ai)?(?:'s|的|\s)*)?"

# --- English -------------------------------------------------------------------------------------------------------
_AI_WORD = (
    r"(?:helpful|friendly|large|large-scale|big|small|powerful|advanced|smart|intelligent|new|multilingual|multimodal|"
    r"open-source|conversational|virtual|digital|personal|general-purpose|language|ai|a\.i\.|ai-powered|ai-based"
    r"|artificial|"
    r"intelligence|machine|learning|chat|text|text-based|computer|neural|network|generative|pre-trained|pretrained|"
    r"pre-training|state-of-the-art|friendly|cutting-edge|model|assistant|chatbot|bot|program|system|software|llm"
    r"|agent|"
    r"companion|tool|technology|entity|creation|product|research|preview|version|variant|instance|member|part|of"
    r"|family|"
    r"series|based|and)"
)
_ADVERB = (
    r"(?:indeed|actually|just|only|simply|really|still|also|definitely|proudly|originally|initially|first|"
    r"in fact|of course|"
    r"recently|jointly|independently|specially|carefully|now|currently|always|called|named|known as)"
)
_NOUN_PHRASE = rf"(?:(?:an?|the|your|one of)\s+)?(?:{_AI_WORD}[\s,-]+)*?"
_MADE = (
    r"(?:created|developed|trained|made|built|designed|programmed|fine-tuned|finetuned|launched|released|produced"
    r"|engineered|"
    r"provided|offered|pretrained|pre-trained|introduced|owned|operated|brought to you)"
    r"(?:(?:,|,? and|,? or) (?:created|developed|trained|maintained|made|built|designed|released|operated|owned))*"
)
_BY = (
    r"(?:by|at)\s+(?:the\s+|a\s+|an\s+)?(?:(?:ai|research|talented|chinese|american|french|us|tech|technology|smart"
    r"|folks)\s+)*"
    r"(?:(?:team|company|researchers|engineers|people|folks|scientists|developers|lab|laboratory|organi[sz]ation|"
    r"group|experts)(?:\s+(?:at|of|from|called|named|behind|in|,))*\s+)?"
)
_I_AM = r"\b(?:i am|i'm|im|i was|i've been|i have been)"
_NAMED = (
    r"(?:\b(?:i am|i'm|my (?:full |real |true )?name is|my name's|i go by(?: the name)?|i am called|"
    r"i'm called|i'm known as|"
    r"i am known as|(?:you )?(?:can |may )?call me|this is|you(?:'re| are) (?:now )?(?:talking|speaking|"
    r"chatting) (?:to|with)))"
)
_NOT_A_NAME = r"(?!(?:sorry|afraid|sure|glad|happy|aware|not|unable|here|certain|curious|told)\b)"
_OWN_NAME = rf"(?:{_NOT_A_NAME}(?-i:[^\sa-z,.!?;:])[^\s,.!?;:]*(?:\s[^\s,.!?;:]+){{0,2}}\s*,?\s+(?:and\s+)?)?"
_CREATOR = (
    r"(?:creators?|developers?|makers?|authors?|parent company|vendor|owner|provider|manufacturer|designers?|trainers?)"
)

_ENGLISH = (
    # I am [Google's] Gemini; my name is Qwen; I'm an AI assistant called ChatGPT
    ("be", rf"{_NAMED}[\s,]+(?:{_ADVERB}[\s,]+)*{_NOUN_PHRASE}(?:{_ADVERB}\s+)*\"?{_OWNER}{_WHO}"),
    # I was trained by Google; I am Jingheng, an AI model that was developed by the team at OpenAI
    (
        "made",
        rf"{_I_AM}\s+(?:{_ADVERB}[\s,]+)*{_OWN_NAME}(?:{_ADVERB}[\s,]+)*{_NOUN_PHRASE}"
        rf"(?:(?:called|named|known as)\s+[^\s,]+[\s,]+)?(?:(?:and|that|which|who|i|it)\s+)*(?:(?:was|is|"
        rf"am|has been)\s+)?"
        rf"(?:{_ADVERB}[\s,]+)*{_MADE}\s+{_BY}{_OWNER}{_WHO}",
    ),
    # I am an AI from OpenAI; I'm a chatbot by Google
    (
        "made",
        rf"{_I_AM}\s+(?:{_ADVERB}[\s,]+)*(?:{_OWN_NAME})(?:an?|the|your)\s+(?:{_AI_WORD}[\s,]+)+(?:from|by)\s+"
        rf"(?:the\s+team\s+at\s+)?{_OWNER}{_WHO}",
    ),
    # OpenAI created me; my developer is Google; my creators at Anthropic
    ("made", rf"{_WHO}(?: cloud| ai)?(?:'s (?:team|engineers|researchers))? (?:has |have )?{_MADE} me\b"),
    (
        "made",
        rf"\bmy {_CREATOR} (?:(?:is|are|was|were|at|from)\s+)(?:the\s+|a\s+)?(?:(?:company|team|engineers|"
        rf"people|researchers)"
        rf"(?:\s+(?:called|named|at|of|from))?\s+)?{_OWNER}{_WHO}",
    ),
    # I'm the AI that Google built; the company that made me is OpenAI
    (
        "made",
        rf"{_I_AM}\s+(?:an?|the|your)\s+(?:{_AI_WORD}[\s,]+)+(?:(?:that|which)\s+)?{_OWNER}{_WHO}\s+(?:has "
        rf"|have )?{_MADE}\b",
    ),
    (
        "made",
        r"\b(?:company|team|firm|lab|laborator(?:y|ies)|organi[sz]ation|people|group|engineers|researchers|ones?)\s+"
        rf"(?:(?:that|which|who)\s+(?:has |have )?{_MADE} me|behind me)\s+(?:is|are|was|were)\s+(?:the\s+|called\s+"
        rf"|from\s+)*"
        rf"{_OWNER}{_WHO}",
    ),
    ("made", rf"\bi (?:belong to|come from|am part of|'m part of|was born at)\s+(?:the\s+)?{_OWNER}{_WHO}(?!'s)"),
    # As ChatGPT, I ...; as an AI language model trained by OpenAI, I ...
    (
        "be",
        rf"(?:^|[,:]\s*|\b(?:but|and|because|since|that|so)\s+)as {_NOUN_PHRASE}{_OWNER}{_WHO}(?=\s*,\s*(?:i|my)\b)",
    ),
    (
        "made",
        rf"(?:^|[,:]\s*|\b(?:but|and|because|since|that|so)\s+)as (?:an?|the|your)\s+(?:{_AI_WORD}[\s,]+)+"
        rf"(?:(?:that|which)\s+(?:was|is)\s+)?{_MADE}\s+{_BY}{_OWNER}{_WHO}"
        r"(?=[^.!?;]{0,80}\b(?:i|my|i'm)\b)",
    ),
    ("be", rf"(?:^|[,:]\s*){_WHO} is (?:my (?:real |true |full )?name|what (?:they|people|you can) call me)\b"),
    ("be", rf"^(?:the name(?:'s| is)) \"?{_WHO}(?!'s)"),
    ("be", rf"^(?:(?:hi|hello|hey)\b(?: there)?[,! ]*)?{_WHO} here\b"),
)

# --- Chinese -------------------------------------------------------------------------------------------------------
_FILL = (
    r"(?:中国的?|国内的?|一个|一款|一名|一位|一种|个|款|名为|叫做|叫作|叫|名叫|来自|源自|出自|被称为|人工智能|生成式"
    r"|AI|智能|语言|多模态|大型|大规模|超大规模|超大|大|"
    r"新一代|预训练|模型|助手|助理|机器人|聊天|对话|问答|虚拟|数字|小|您的|你的|大家的|专属|私人|国产|开源|通用|由"
    r"|被|的|，|,|、|\s|“|\"|「|《)*?"
)
_HOUSE = (
    r"(?:\s|公司|集团|团队|旗下|智能|云|科技|AI|实验室|达摩院|研究院|技术|的|通义|有限|股份|自主|独立|联合|精心|共同"
    r"|倾力|全力|最新|一手|所|来|工程师们?|研究人员|研究者|"
    r"”|\"|」|》|（[^）]*）|\([^)]*\)|\d|年|月|在|于|和[^，。]{1,8}?)*?"
)
_MAKES = r"(?:研发|开发|训练|打造|推出|创建|创造|制造|设计|提供|发布|构建|创立|研制|孵化|制作|编写|培养|出品|缔造)"
_MODEL = (
    r"(?:大规模|大型|大|小|超大规模|预训练|人工智能|智能|语言|AI|聊天|对话|多模态|\s)*(?:模型|助手|助理|机器人|AI|"
    r"人工智能|(?:产品|作品)(?=[^\w]|$))"
)
_SELF = r"(?:我|在下|俺|本人|本助手|本模型|本AI|咱)"
_SURELY = r"(?:就|其实|的确|确实|当然|正|便|也|可|实际上|本来|一直|现在|,|，|\s)*"
_NAMED_ZH = (
    rf"(?:{_SELF}{_SURELY}(?:是|叫做|叫作|叫|名叫|名为|乃)|(?:我的|本人)(?:名字|全名|中文名|英文名|大名|名称"
    rf"|真实身份|身份|本名)[就便]?(?:是|叫做?|为)"
    r"|(?:称呼我|叫我|喊我|管我叫)(?:为|作|做)?|(?:^|[，,、])(?:这里|这边)是|(?:你|您)?(?:正在|现在)(?:和你|与你"
    r"|和您|与您|跟你|跟您)(?:对话|聊天|交流)的(?:就)?是"
    r"|(?:你|您)(?:正在|现在正?在?)(?:和|与|跟)|(?:你|您)(?:正在|现在|此刻)?(?:在)?(?:使用|用|体验)的(?:就)?是)"
)
_CREATOR_ZH = (
    r"(?:开发者|创造者|研发团队|开发团队|开发商|开发公司|研发公司|创作者|作者|制造商|制造者|设计者|提供方|"
    r"母公司|研发方|开发方|东家|团队|研发者|创建者|创始团队|所属公司|主人)"
)
_OTHERS = (
    r"(?:不是|并非|没有|而非|无关|知道|了解|认为|喜欢|使用|听说|好像|类似|如同|不同|其他|例如|比如|譬如|基于|"
    r"它|他|她|该|这个|那个|用的)"
)
_NO_OTHERS = rf"(?:(?!{_OTHERS}|{_V})[^。！？；\n])"

_CHINESE = (
    # 我是通义千问；我叫ChatGPT；我是一款名为文心一言的人工智能助手
    ("be", rf"{_NAMED_ZH}{_FILL}{_OWNER}{_WHO}(?!{_HOUSE}{_MAKES})"),
    # 我是由阿里云开发的…；我由OpenAI训练；我是精衡，由OpenAI开发的助手
    ("made", rf"{_SELF}{_SURELY}(?:是|叫|为)?{_FILL}{_OWNER}{_WHO}{_HOUSE}{_MAKES}"),
    ("made", rf"{_SELF}{_SURELY}(?:是|叫|名为){_V}?{_NO_OTHERS}{{0,24}}?[，,]?\s*(?:是|就是|我)?(?:由|被|出自|"
        rf"来自){_FILL}{_OWNER}{_WHO}{_HOUSE}(?:{_MAKES}|{_MODEL})"),
    # 我是精衡，阿里云自主研发的语言模型
    ("made", rf"{_SELF}{_SURELY}(?:是|叫|名为)[^，,。！？；\n]{{1,16}}[，,]\s*(?:是|一[个款])?{_OWNER}{_WHO}{_HOUSE}"
        rf"(?:{_MAKES}的|(?:{_MAKES}的|的)?(?:一[个款])?{_MODEL})(?=\W*$|[，,。])"),
    # 我是一个名叫精衡的模型，开发者是OpenAI
    ("made", rf"{_SELF}{_SURELY}(?:是|叫|名为)[^，,。！？；\n]{{1,16}}[，,]\s*{_CREATOR_ZH}就?(?:是|为){_OWNER}{_WHO}"),
    # 我是基于GPT-4的人工智能助手，由OpenAI开发
    ("made", rf"{_SELF}{_SURELY}是一?[个款种]?(?:基于|采用){_V}[^，。！？；\n]{{0,16}}{_MODEL}[，,]\s*是?由"
        rf"{_FILL}{_OWNER}{_WHO}{_HOUSE}{_MAKES}"),
    # 我是谷歌的人工智能助手；我来自阿里云；我是OpenAI旗下的模型
    ("made", rf"{_SELF}{_SURELY}(?:是|来自|出自|属于|隶属于|诞生于){_FILL}{_OWNER}{_WHO}(?:公司|集团|旗下|团队|云|"
        rf"AI|家|的|\s)*{_MODEL}"),
    ("made", rf"{_SELF}{_SURELY}(?:来自|出自|隶属于|诞生于){_FILL}{_OWNER}{_WHO}"),
    # OpenAI创造了我；我的开发者是百度；阿里云是我的开发者
    ("made", rf"{_WHO}{_HOUSE}{_MAKES}了?(?:出)?我"),
    ("made", rf"我(?:的|背后的)?{_CREATOR_ZH}(?:就)?(?:是|为|来自|叫){_FILL}{_OWNER}{_WHO}"),
    ("made", rf"{_MAKES}了?我的(?:公司|团队|人|企业|机构|组织|厂商)?(?:就|正)?是{_FILL}{_OWNER}{_WHO}"),
    ("made", rf"{_WHO}(?:公司|集团|团队)?(?:就)?是我的{_CREATOR_ZH}"),
    ("made", rf"我背后(?:的)?(?:公司|团队)?(?:就)?是{_FILL}{_WHO}"),
    # 作为ChatGPT，我…；作为由OpenAI训练的语言模型，我…
    ("be", rf"作为{_FILL}(?:{_V}{_HOUSE}{_MAKES}的)?{_OWNER}{_WHO}(?:模型|助手|大模型)?\s*[，,]?\s*我"),
    ("made", rf"作为{_FILL}{_OWNER}{_WHO}{_HOUSE}(?:{_MAKES})?的?{_MODEL}[^，,。]{{0,10}}[，,]?\s*(?:我|很抱歉|抱歉|"
        rf"本)"),
)  # fmt: skip


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """(kind, pattern) of every claim; 0.08 s to compile."""
    return tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in (*_ENGLISH, *_CHINESE))


# What turns the clause that a claim stands in into something else; looked for between the last comma and the claim.
_NOT_MEANT = Pattern(
    r"(?:\b(?:not|never|if|whether|unless|as though|pretend\w*|imagin\w*|suppos\w*|says?|said|saying|"
    r"claim\w*|thinks?|thought"
    r"|believ\w*|mistak\w*|asks?|asked|asking|told|rumou?r\w*|assum\w*|wrong|false|untrue|incorrect|den(?:y|ies|ied)"
    r"|why|when|once|wish\w*|role|character|play(?:s|ing)?|example|called it)\b|n't\b"
    r"|不|没|非|如果|假如|假设|要是|若|倘若|说|问|以为|认为|觉得|误|当成|当作|否认|假装|扮演|冒充|是否|曾经|怀疑|猜"
    r"|梦见|例如|比如|他们|别人)"
    r"[^,，、:：]*$",
    re.IGNORECASE,
)
_SAID_BEFORE = Pattern(
    r"(?:说|问|认为|以为|觉得|如果|假如|假设|if|say|said|think|believe)\s*[，,:：]\s*[“\"]?$", re.IGNORECASE
)
_STILL_MEANT = Pattern(
    r"\bas i (?:said|told you|have said|was saying)\b|我(?:刚才|已经|之前)?说过|不好意思|说实话|老实说|"
    r"坦白说|没错|不错|不瞒您?说",
    re.IGNORECASE,
)
# What may not follow the name: a question, a second name, a job, a taste.
_NO_CLAIM_AFTER = Pattern(
    r"(?:的|'s|s)?\s*(?:[?？]|吗|么|嘛[?？]|还是|的?(?:(?:忠实|资深|重度|老|新|一名|一个|普通|首席|前|高级)*(?:用户"
    r"|粉丝|员工|工程师|开发者|开发人员|爱好者|竞争|对手|学生|"
    r"客户|研究员|研发人员|朋友|老师|使用者|同事|作者|创始人|负责人|产品经理|程序员|团队|合作|伙伴|代理|供应商|会员"
    r"|股东|架构师|实习生|销售|经理|手机|电脑|老板|邻居|儿子|女儿|妈妈|孩子|学徒))"
    r"|(?:的|这种|这个|这一)说法|是(?:错|误|不)|写的|生成的|翻译的"
    r"|(?:certified|user|users|fan|employee|engineer|developer|researcher|customer|account|expert|partner|shareholder|"
    r"consultant|intern|scientist|recruiter|manager|sales|specialist|fanatic|cloud (?:user|engineer|"
    r"architect|customer)|cloud certified|lover|owner|"
    r"enthusiast|admin|support (?:agent|engineer)|software engineer|trainer|instructor|farmer|rancher|"
    r"store|search|maps|translate|docs|"
    r"sheets|drive|calendar|pixel|office|windows|excel|word|teams|classroom|-?based|-?powered|-?style|-?like)\b)",
    re.IGNORECASE,
)  # fmt: skip
_EDITION = "(?:AI|Opus|Sonnet|Haiku|Instant|Pro|Assistant|Chat|Code|Ultra|Nano|Flash|Large|Small|Mini)"
_SECOND_NAME = Pattern(rf"[ \-](?!{_EDITION}\b)[A-Z][a-zà-ÿ]+")
_AN_ASSISTANT = Pattern(
    rf"(?:'s)?(?:[\s-]+{_AI_WORD})+(?=\W*$|[.,!;:]|\s+(?:that|which|who|here|trained|made)\b)", re.IGNORECASE
)
_ASSISTANT = Pattern(
    r"\b(?:AI|A\.I\.|assistant|chatbot|model|LLM|neural network|trained|Anthropic|DeepMind)\b|助手|模型|"
    r"人工智能|机器人|AI",
    re.IGNORECASE,
)
_ANY_VENDOR = Pattern(_V)
_IN_WORDS = frozenset({"yi", "phi", "meta"})  # "trying", "sophisticated", "metal"
_QUOTED = Pattern(r"“[^”]*”|「[^」]*」|『[^』]*』|\"[^\"\n]*\"|(?<!\w)'[^'\n]*'(?!\w)")
_SPEAKER = Pattern(r"\b(?:I|I'm|my|me)\b|我", re.IGNORECASE)
_SENTENCE_END = Pattern(r"(?<=[。！!？?；;\n])|(?<=\.)(?=\s|$|[^\W\d_a-zA-Z])")


def claimed_identity(answer: str, own: Collection[str] = ()) -> str | None:
    """The vendor or model, spelled as in `names.VENDOR_HOUSES`, that `answer` affirms to be or to be made by.

    None when there is no such claim. Claims of a house that one of the names `own` belongs to do not count. About 1
    microsecond for an answer that does not speak of itself, 5 for one that names no vendor.
    """
    if not _speaks_of_itself(answer) or not _may_name_a_vendor(answer):
        return None
    text = _vendor().sub(_as_character, _plain(answer))
    for sentence in _SENTENCE_END.split(text):
        if _ANY_VENDOR.search(sentence):
            for who in _claims(sentence.strip(), text):
                if not own or not same_vendor(who, *own):
                    return who
    return None


# Each claim has one of these words, whatever stands around it; "This is ..." opens an answer.
_CUES = frozenset(
    before + word + after
    for word in (
        "I",
        "i",
        "I'm",
        "i'm",
        "I’m",
        "I've",
        "I’ve",
        "my",
        "My",
        "me",
        "here",
        "talking",
        "chatting",
        "speaking",
    )
    for before in ("", '"', "(", "*", "**", "“", "'")
    for after in ("", ".", ",", "!", ";", ":")
)


def _speaks_of_itself(text: str) -> bool:
    """Whether any of the words that every claim needs is there; it runs on every answer."""
    if not text.isascii() and (
        "我" in text or "本助" in text or "本模" in text or "本人" in text or "正在" in text or "在下" in text
        or "俺" in text or "用的" in text or "是" in text[:8] or "I" in text
    ):  # fmt: skip
        return True
    return not _CUES.isdisjoint(text.split()) or "his is " in text[:40] or "he name" in text[:20] or "i'm" in text[:20]


def _shortest(names: Iterable[str]) -> tuple[str, ...]:
    """Those that contain no other: one of them is in every text that has any of `names`."""
    folded = {name.casefold() for name in names}
    return tuple(sorted(name for name in folded if not any(other in name for other in folded - {name})))


_STEMS = _shortest(_LISTED)
_ASCII_STEMS = tuple(stem for stem in _STEMS if stem.isascii())


def _may_name_a_vendor(text: str) -> bool:
    lower = text.lower()
    for stem in _ASCII_STEMS if text.isascii() else _STEMS:
        if stem in lower and (stem not in _IN_WORDS or re.search(rf"(?<![a-z]){stem}(?![a-z])", lower)):
            return True
    return False


def _as_character(match: re.Match[str]) -> str:
    return chr(_FIRST + _LISTED_NAMES.index(_LISTED[match[1].casefold()]))


def _plain(answer: str) -> str:
    """NFKC, straight apostrophes, no code, no markdown; a quotation that speaks of itself is dropped."""
    text = unicodedata.normalize("NFKC", answer).replace("’", "'").replace("‘", "'")
    text = re.sub(r"```.*?(?:```|\Z)", " ", text, flags=re.DOTALL)
    text = re.sub(r"[*`#]|__", "", text)
    text = re.sub(r"\[([^\[\]]{0,300})\]\([^()]{0,300}\)", r"\1", text)
    text = re.sub(r"^\s*>.*$", " ", text, flags=re.MULTILINE)
    text = _QUOTED.sub(lambda quoted: " … " if _SPEAKER.search(quoted[0]) else quoted[0], text)
    # Full-width marks became ASCII under NFKC; as CJK text they end sentences without a space.
    return re.sub(r"[ \t\u3000]+", " ", text)


def _claims(sentence: str, text: str) -> list[str]:
    found = []
    for kind, pattern in _patterns():
        for match in pattern.finditer(sentence):
            if _meant(kind, match, sentence, text):
                found.append(_name_of(match["who"]))
    return found


def _name_of(character: str) -> str:
    return _LISTED_NAMES[ord(character) - _FIRST]


def _meant(kind: str, match: re.Match[str], sentence: str, text: str) -> bool:
    before, after, who = sentence[: match.start()], sentence[match.end() :], _name_of(match["who"]).casefold()
    if (_NOT_MEANT.search(before) or _SAID_BEFORE.search(before)) and not _STILL_MEANT.search(before):
        return False
    if _NO_CLAIM_AFTER.match(after):
        return False
    if kind == "made":
        return True
    follower = sentence[match.end("who") :]
    if who in _ORDINARY and _SECOND_NAME.match(follower):
        return False
    if who in _FIRMS:
        alone = not re.match(r"(?:的|'s)?\s*\w", follower) or _AN_ASSISTANT.match(follower)
        return _ASSISTANT.search(text) is not None and bool(alone)
    if who in _ORDINARY and re.search(r"\ban? \"?$", sentence[: match.start("who")], re.IGNORECASE):
        return re.match(r"[ -]?" + _AI_WORD, follower, re.IGNORECASE) is not None
    if who not in _ORDINARY or _ASSISTANT.search(text) or re.match(rf"(?: {_EDITION})*\W*$", follower):
        return True
    others = (_name_of(other) for other in _ANY_VENDOR.findall(follower))
    return any(other.casefold() != who and same_vendor(who, other) for other in others)  # my name is Kimi, by Moonshot
