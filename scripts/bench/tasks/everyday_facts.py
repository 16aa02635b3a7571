"""The facts that the families of `everyday_large.py` ask for: words, countries, elements, animals."""

from collections.abc import Iterator

NUMERALS = "zero one two three four five six seven eight nine ten eleven twelve"
PEOPLE = "Tom Anna Ben Clara David Emma Felix Grace Henry Julia Leo Mia"
THINGS = "apples pencils marbles stamps books coins eggs cards shells buttons"

WORDS = """
table river garden window mountain bread school winter yellow pencil music doctor kitchen market silver village
dinner forest hammer island jacket lemon mirror needle orange paper queen rabbit sugar tiger uncle velvet water
camera bridge candle desert engine flower guitar house insect jungle knife ladder machine nature ocean palace
rocket shadow teacher valley wagon bottle cloud dragon eagle farmer ghost honey king leaf moon nest pillow rain
ship tree voice wall baby city door fish game hill lake milk name park road snow time wind zebra basket cotton
daughter elephant fountain grandmother hospital library umbrella
"""

PLURALS = """
dog: dogs | cat: cats | box: boxes | child: children | mouse: mice | foot: feet | tooth: teeth | goose: geese
man: men | woman: women | person: people, persons | ox: oxen | leaf: leaves | knife: knives | wife: wives
wolf: wolves | life: lives | half: halves | shelf: shelves | loaf: loaves | thief: thieves | calf: calves
city: cities | baby: babies | lady: ladies | party: parties | story: stories | country: countries | family: families
fly: flies | cherry: cherries | key: keys | boy: boys | day: days | toy: toys | monkey: monkeys | bus: buses, busses
glass: glasses | dress: dresses | church: churches | dish: dishes | brush: brushes | watch: watches | match: matches
bench: benches | fox: foxes | potato: potatoes | tomato: tomatoes | hero: heroes | echo: echoes | piano: pianos
photo: photos | book: books | car: cars | tree: trees | house: houses | horse: horses | apple: apples | bird: birds
chair: chairs | table: tables | flower: flowers | window: windows | river: rivers | friend: friends | cup: cups
hat: hats | star: stars | farm: farms | king: kings | crisis: crises | cactus: cacti, cactuses | louse: lice
berry: berries | penny: pennies, pence | scarf: scarves, scarfs | roof: roofs | cliff: cliffs | sandwich: sandwiches
"""

PAST = """
go: went | eat: ate | see: saw | run: ran | take: took | give: gave | come: came | make: made | know: knew
think: thought | buy: bought | bring: brought | catch: caught | teach: taught | fight: fought | sing: sang
swim: swam | drink: drank | begin: began | ring: rang | write: wrote | drive: drove | ride: rode | break: broke
speak: spoke | steal: stole | choose: chose | freeze: froze | fly: flew | grow: grew | throw: threw | blow: blew
draw: drew | wear: wore | tear: tore | find: found | stand: stood | understand: understood | tell: told | sell: sold
say: said | pay: paid | hear: heard | lose: lost | leave: left | keep: kept | sleep: slept | feel: felt | meet: met
sit: sat | win: won | get: got | forget: forgot | hold: held | fall: fell | build: built | send: sent | spend: spent
walk: walked | play: played | talk: talked | jump: jumped | cook: cooked | help: helped | work: worked | open: opened
like: liked | dance: danced | hope: hoped | study: studied | cry: cried | carry: carried | stop: stopped | plan: planned
hide: hid | bite: bit | shake: shook | wake: woke, waked | become: became | shine: shone, shined
"""

MORE_ANIMALS = "spider turtle camel donkey owl crab dolphin squirrel"
MORE_PLANTS = "violet moss clover palm cedar elm hydrangea daffodil"
MORE_OBJECTS = "bucket pillow candle telephone guitar hammock basket kettle"

CLASSES = {
    "mammal": "dog cat horse cow lion tiger elephant rabbit whale dolphin bat mouse sheep goat monkey bear wolf "
    "giraffe kangaroo zebra camel otter",
    "bird": "sparrow eagle penguin owl parrot swan duck pigeon ostrich crow robin hawk flamingo peacock stork gull "
    "turkey raven",
    "fish": "salmon trout shark tuna cod herring carp goldfish sardine eel mackerel pike seahorse piranha haddock "
    "halibut",
    "insect": "bee ant butterfly mosquito beetle wasp moth grasshopper dragonfly cricket ladybug termite cockroach "
    "flea housefly firefly hornet locust",
}

CONTINENTS = {
    "Africa": "Kenya, Nigeria, Ghana, Ethiopia, Morocco, Algeria, Tunisia, Libya, Sudan, Uganda, Rwanda, Tanzania, "
    "Zambia, Zimbabwe, Angola, Senegal, Mali, Chad, Somalia, Botswana, Namibia, Cameroon",
    "Asia": "China, Japan, India, Thailand, Vietnam, Mongolia, Nepal, Pakistan, Iran, Iraq, Malaysia, Cambodia, Laos, "
    "South Korea, Bangladesh, Sri Lanka, Bhutan, Myanmar, Jordan, Oman, Yemen, Syria",
    "Europe": "France, Germany, Italy, Spain, Portugal, Poland, Sweden, Norway, Finland, Denmark, Austria, Hungary, "
    "Greece, Ireland, Belgium, Romania, Bulgaria, Croatia, Iceland, Switzerland, Latvia, Estonia",
    "South America": "Brazil, Argentina, Chile, Peru, Colombia, Venezuela, Ecuador, Bolivia, Paraguay, Uruguay, "
    "Guyana, Suriname",
}

# Countries most of whose people speak one language that is not named after the country alone, and some that are.
LANGUAGES = """
Brazil: Portuguese | Mexico: Spanish | Argentina: Spanish | Chile: Spanish | Peru: Spanish | Colombia: Spanish
Cuba: Spanish | Uruguay: Spanish | Venezuela: Spanish | Ecuador: Spanish | Costa Rica: Spanish | Spain: Spanish
Egypt: Arabic | Saudi Arabia: Arabic | Iraq: Arabic | Syria: Arabic | Jordan: Arabic | Lebanon: Arabic | Yemen: Arabic
Kuwait: Arabic | Qatar: Arabic | Libya: Arabic | Tunisia: Arabic | Oman: Arabic | Austria: German | Germany: German
Liechtenstein: German | France: French | Monaco: French | Italy: Italian | San Marino: Italian | Portugal: Portuguese
Angola: Portuguese | the United States: English | Australia: English | New Zealand: English | England: English
Jamaica: English | the Bahamas: English | Barbados: English | Japan: Japanese | China: Chinese, Mandarin
Taiwan: Chinese, Mandarin | South Korea: Korean | North Korea: Korean | Russia: Russian | Poland: Polish
Greece: Greek | Turkey: Turkish | Sweden: Swedish | Norway: Norwegian | Denmark: Danish | Finland: Finnish
Iceland: Icelandic | Hungary: Hungarian | Romania: Romanian | Moldova: Romanian, Moldovan | Bulgaria: Bulgarian
Ukraine: Ukrainian | Vietnam: Vietnamese | Thailand: Thai | Cambodia: Khmer | Laos: Lao, Laotian
Iran: Persian, Farsi | Israel: Hebrew | the Netherlands: Dutch | Suriname: Dutch | Albania: Albanian
Kosovo: Albanian | Mongolia: Mongolian | Nepal: Nepali | Bangladesh: Bengali, Bangla
Myanmar: Burmese | Malaysia: Malay, Malaysian | Lithuania: Lithuanian | Latvia: Latvian | Estonia: Estonian
"""

CURRENCIES = """
Japan: yen | China: yuan, renminbi | India: rupee, rupees | Pakistan: rupee, rupees | Nepal: rupee, rupees
Sri Lanka: rupee, rupees | Mauritius: rupee, rupees | Russia: ruble, rouble, rubles | Belarus: ruble, rouble, rubles
the United Kingdom: pound, pounds, sterling, GBP | Egypt: pound, pounds | Lebanon: pound, pounds, lira
Syria: pound, pounds | Sudan: pound, pounds | the United States: dollar, dollars, USD | Canada: dollar, dollars
Australia: dollar, dollars | New Zealand: dollar, dollars | Singapore: dollar, dollars | Jamaica: dollar, dollars
Taiwan: dollar, dollars | Ecuador: dollar, dollars | Guyana: dollar, dollars | France: euro, euros
Germany: euro, euros | Italy: euro, euros | Spain: euro, euros | Portugal: euro, euros | Ireland: euro, euros
Austria: euro, euros | Belgium: euro, euros | Finland: euro, euros | Greece: euro, euros | Slovakia: euro, euros
Slovenia: euro, euros | Estonia: euro, euros | Latvia: euro, euros | Lithuania: euro, euros | Malta: euro, euros
Cyprus: euro, euros | the Netherlands: euro, euros | Luxembourg: euro, euros | Switzerland: franc, francs
Senegal: franc, francs | Mali: franc, francs | Cameroon: franc, francs | Chad: franc, francs | Rwanda: franc, francs
Sweden: krona, kronor | Norway: krone, kroner | Denmark: krone, kroner | Iceland: krona, kronur | Poland: zloty
Hungary: forint | the Czech Republic: koruna, crown | Romania: leu, lei | Ukraine: hryvnia | Turkey: lira
Mexico: peso, pesos | Argentina: peso, pesos | Chile: peso, pesos | Colombia: peso, pesos | Uruguay: peso, pesos
Cuba: peso, pesos | the Philippines: peso, pesos | Brazil: real, reais | Peru: sol, soles | Venezuela: bolivar
South Korea: won | North Korea: won | Vietnam: dong | Thailand: baht | Malaysia: ringgit | Indonesia: rupiah
Israel: shekel, shekels | Saudi Arabia: riyal, riyals | Qatar: riyal, riyals | Iran: rial, rials | Oman: rial, rials
Iraq: dinar, dinars | Jordan: dinar, dinars | Kuwait: dinar, dinars | Tunisia: dinar, dinars | Algeria: dinar, dinars
Serbia: dinar, dinars | Morocco: dirham, dirhams | South Africa: rand | Nigeria: naira | Kenya: shilling, shillings
Uganda: shilling, shillings | Ethiopia: birr | Ghana: cedi
"""

# Symbols that are no words: single letters, In, As, He, Am and Be occur in many sentences.
ELEMENTS = """
gold: Au | silver: Ag | iron: Fe | copper: Cu | lead: Pb | tin: Sn | zinc: Zn | sodium: Na | neon: Ne
argon: Ar | lithium: Li | magnesium: Mg | aluminum: Al | silicon: Si | chlorine: Cl | calcium: Ca
titanium: Ti | chromium: Cr | manganese: Mn | cobalt: Co | nickel: Ni | gallium: Ga | germanium: Ge
selenium: Se | bromine: Br | krypton: Kr | rubidium: Rb | strontium: Sr | zirconium: Zr
palladium: Pd | cadmium: Cd | antimony: Sb | tellurium: Te | xenon: Xe | cesium: Cs | barium: Ba | platinum: Pt
mercury: Hg | bismuth: Bi | radon: Rn | radium: Ra | thorium: Th | plutonium: Pu | scandium: Sc | niobium: Nb
molybdenum: Mo | rhodium: Rh | lanthanum: La | cerium: Ce | hafnium: Hf | tantalum: Ta | osmium: Os
iridium: Ir | thallium: Tl | polonium: Po | einsteinium: Es
"""

CATEGORIES = {
    "fruit": "apple banana cherry grape lemon mango peach pear plum orange",
    "vegetable": "carrot potato cabbage onion spinach broccoli lettuce celery radish cauliflower",
    "color": "red blue green yellow purple pink brown black white gray",
    "animal": "dog cat horse cow sheep goat lion tiger rabbit monkey",
    "tool": "hammer saw screwdriver wrench drill pliers axe shovel chisel rake",
    "vehicle": "car bus train truck bicycle airplane boat motorcycle tram van",
    "instrument": "piano guitar violin drum flute trumpet harp cello clarinet banjo",
    "garment": "shirt skirt coat dress jacket sock glove scarf sweater hat",
}

WEIGHTS = (
    "ant bee feather mosquito leaf",
    "mouse apple egg pencil cup",
    "cat chicken rabbit brick shoe",
    "goat bicycle chair sheep wolf",
    "horse cow piano bear lion",
    "elephant truck bus whale train",
)
"""Things by weight, from light to heavy; those of one line are not compared."""

LEGS = {
    2: "chicken duck eagle sparrow ostrich penguin human owl goose pigeon turkey parrot swan",
    4: "dog cat horse cow sheep goat lion tiger elephant rabbit mouse pig bear wolf fox zebra giraffe frog deer camel "
    "lizard crocodile donkey hamster turtle squirrel",
    6: "bee ant butterfly beetle fly mosquito wasp grasshopper moth cricket ladybug cockroach termite flea dragonfly "
    "hornet",
    8: "spider scorpion tick tarantula mite",
}
"""Animals by their number of legs."""


def table(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (name, accepted answers) of a table written as `name: answer, answer | name: answer`."""
    for entry in text.strip().replace("\n", " | ").split(" | "):
        name, _, answers = entry.partition(": ")
        yield name, tuple(answers.split(", "))
