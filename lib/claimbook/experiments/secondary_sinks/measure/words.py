"""English function words: the closed classes, which carry grammar more than meaning."""

FUNCTION = frozenset(
    """
    a an the this that these those each every either neither some any no all both half such another other others same
    i you he she it we they me him her us them my your his its our their mine yours hers ours theirs myself yourself
    himself herself itself ourselves themselves who whom whose which what whoever whatever one ones none nothing
    something anything everything someone anyone everyone nobody somebody anybody everybody
    am is are was were be been being do does did done doing have has had having will would shall should can could may
    might must ought cannot not never n't s t re ve ll d m
    about above across after against along among around as at before behind below beneath beside besides between beyond
    by despite down during except for from in inside into like near of off on onto out outside over past per since than
    through throughout till to toward towards under underneath until unto up upon via with within without
    and but or nor so yet if because although though while whereas unless whether when whenever where wherever why how
    there here then thus hence therefore however also too very just only even still already again ever once more most
    less least much many few several enough rather quite else instead
    """.split()  # noqa: SIM905
)


def is_content(text: str) -> bool:
    """Whether a token says something: it has a letter, and is no function word. A piece of a word counts as one."""
    word = text.strip().lower()
    return any(letter.isalpha() for letter in word) and word.strip("'’") not in FUNCTION
