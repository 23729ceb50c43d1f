"""Common words and names, of which the recall task takes those that are one token."""

WORDS = """
    apple river stone table window garden horse bread music paper silver winter doctor island castle forest bridge
    engine mirror pocket rabbit school shadow square street summer ticket travel valley village water wheel wolf
    world yellow bottle butter button camera candle carpet cheese church circle cotton desert dinner dragon farmer
    father finger flower friend guitar hammer heaven honey hotel jacket kitchen ladder lemon letter machine market
    master meadow metal minute money monkey moon morning mother mountain needle number ocean office orange palace
    pencil people pepper picture planet plant poet prince prison queen rain ring road rocket roof room rope rose
""".split()  # noqa: SIM905
NAMES = """
    Adams Allen Baker Bell Brown Carter Clark Cook Cooper Cox Davis Edwards Evans Fisher Ford Foster Gordon Graham
    Gray Green Hall Harris Hill Howard Hughes Hunt Irving Jackson James Johnson Jones Kelly Kennedy King Knight Lee
    Lewis Long Marshall Martin Mason Miller Mitchell Moore Morgan Morris Murphy Murray Nelson Oliver Palmer Parker
    Perry Peterson Phillips Powell Price Quinn Reed Richardson Roberts Rogers Ross Russell Sanders Scott Shaw
    Simpson Smith Stewart Stone Sullivan Taylor Thomas Thompson Tucker Turner Walker Wallace Ward Warren Watson Webb
    Wells West White Williams Wilson Wood Wright Young
""".split()  # noqa: SIM905
