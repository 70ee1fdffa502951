"""Plots and titles of the sample's films, put together from a grammar of their own: nothing is taken from a real film.

A plot tells a film's genre by its people, places and events, its mood by how it feels and ends, and its theme, what it
is about. A poster tells genre and mood too, but never the theme: who reads no plots cannot know it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator


@dataclass(frozen=True)
class Genre:
    """Whom and what the films of a genre speak of, and the moods they come in."""

    name: str
    moods: tuple[str, ...]
    people: tuple[str, ...]
    places: tuple[str, ...]
    events: tuple[str, ...]
    troubles: tuple[str, ...]
    nouns: tuple[str, ...]


@dataclass(frozen=True)
class Mood:
    """How a film feels, how it ends, and what its title sounds like."""

    name: str
    airs: tuple[str, ...]
    endings: tuple[str, ...]
    adjectives: tuple[str, ...]
    tagline: tuple[str, ...]


@dataclass(frozen=True)
class Theme:
    """What a film is about, whatever its genre."""

    name: str
    turns: tuple[str, ...]


GENRES = (
    Genre(
        "Western",
        ("bright", "dark", "tense", "wistful"),
        (
            "retired marshal", "horse breaker", "county mapmaker", "stagecoach driver", "cattle drover",
            "travelling preacher", "gold assayer", "bounty hunter", "saloon pianist", "telegraph rider",
        ),
        (
            "a town the railway forgot", "a silver camp above the snow line", "a dry river crossing",
            "the last ranch before the badlands", "a border fort of mud and timber", "a canyon with a single well",
            "a cattle trail across the prairie", "a mining town of one street",
        ),
        (
            "A stranger rides in and buys the only well.", "The payroll coach never reaches the pass.",
            "Rustlers cut the fences and drive three hundred head into the canyon.",
            "A duel is called for noon, and the sheriff leaves on the morning train.",
            "The posse finds a saddled horse without a rider.", "Land agents arrive with deeds that nobody signed.",
            "A dust storm buries the trail behind the wagons.", "Gold is weighed twice and comes out lighter.",
            "The saloon keeper hides a wounded outlaw under the stage.", "Drovers bet their whole herd on one rider.",
        ),
        (
            "Out on the prairie no law reaches further than a rifle.", "The wells run low and the cattle are dying.",
            "The railroad wants the valley and does not ask.", "Every ranch hand in the county takes a side.",
            "Six bullets are left, and seven men wait in the street.", "The badlands give nothing back.",
        ),
        ("Saddle", "Canyon", "Telegraph", "Mesa", "Drover", "Spur", "Prairie", "Rifle", "Stagecoach", "Homestead"),
    ),
    Genre(
        "Sci-Fi",
        ("bright", "dark", "dreamy", "tense"),
        (
            "salvage pilot", "moon station botanist", "clockmaker's android", "orbital surveyor", "cryogenics nurse",
            "asteroid miner", "xenolinguist", "reactor engineer", "colony archivist", "deep space courier",
        ),
        (
            "a relay station beyond Saturn", "a flooded orbital city", "a colony that keeps two calendars",
            "a research dome on a moon of ice", "a generation ship three centuries from port",
            "a shipyard in the asteroid belt", "a terraforming camp under two suns", "an abandoned space elevator",
        ),
        (
            "A signal from deep space repeats tomorrow's news.", "The ship's computer begins to argue with its crew.",
            "A second sun rises on schedule.", "A probe returns a hundred years before its launch.",
            "The androids of the dockyard ask for one day off.", "An airlock opens onto a corridor that is on no plan.",
            "Sensors count one more heartbeat aboard than there are people.",
            "The planet below answers in the voice of the dead captain.",
            "Gravity fails in one district after another.", "A cloned crew wakes beside the first one.",
        ),
        (
            "Oxygen is left for eleven days, and Earth does not answer.",
            "Between the stars nobody hears a distress call.",
            "The reactor counts down while the robots vote.", "Every jump through hyperspace costs a memory.",
            "The colony's machines no longer take orders.", "What lives under the ice has learned their language.",
        ),
        ("Orbit", "Signal", "Comet", "Airlock", "Satellite", "Nebula", "Android", "Eclipse", "Horizon", "Parallax"),
    ),
    Genre(
        "Romance",
        ("bright", "dreamy", "wistful", "tense"),
        (
            "piano tuner", "ferry ticket clerk", "pastry cook", "letter writer for hire", "florist",
            "bookshop owner", "portrait painter", "hotel receptionist", "dance teacher", "divorced vintner",
        ),
        (
            "a seaside hotel in the off season", "a street of bookshops", "an island with one telephone",
            "a vineyard before the harvest", "a city of bridges in the rain", "a café that closes at dawn",
            "a lakeside village during a wedding", "an attic above a flower market",
        ),
        (
            "Love letters meant for a stranger keep coming.", "A rehearsal dinner has one guest too many.",
            "A lost coat is returned twice, each time with a note.", "They share one umbrella and miss two trains.",
            "A kiss at the costume ball is given to the wrong mask.", "The wedding is put off for the third time.",
            "A first love comes back, engaged.", "They agree to meet in a year on the same bridge.",
            "She reads his diary by mistake and answers it.", "A waltz is danced in an empty ballroom.",
        ),
        (
            "Neither dares to say what both of them feel.", "He is promised to another, and the summer is short.",
            "Each tender word is followed by a misunderstanding.", "Her heart says stay, and the boat leaves at six.",
            "Between two people who love each other lies an old pride.", "The bouquet arrives a day too late.",
        ),
        ("Letter", "Summer", "Waltz", "Harbour", "Kiss", "Bouquet", "Promise", "Sweetheart", "Serenade", "Bride"),
    ),
    Genre(
        "Horror",
        ("dark", "tense", "dreamy", "wistful"),
        (
            "night nurse", "beekeeper", "deaf lighthouse keeper", "gravedigger", "private tutor",
            "exorcist out of practice", "wax modeller", "orphanage cook", "sleepwalker", "estate caretaker",
        ),
        (
            "a house with one window too many", "a village without mirrors", "a wood that no bird enters",
            "a boarding school built over a crypt", "a sanatorium closed since the fire", "a chapel sunk in the marsh",
            "a manor whose cellar is locked from inside", "a farm at the edge of the moor",
        ),
        (
            "Footsteps are heard under the floor.", "The portraits change their clothes at night.",
            "Something in the attic answers the children's game.", "A grave is found open, and empty, from within.",
            "The dolls are turned to face the wall each morning.", "A face appears in a window of the top floor.",
            "The priest refuses to enter and will not say why.", "Scratches spell a name on the nursery door.",
            "The dead dog scratches at the kitchen door.", "Blood runs from the old well on the eve of the feast.",
        ),
        (
            "Whoever sleeps in the house wakes in the cellar.", "The thing in the wood has begun to copy voices.",
            "A curse asks for one life in each generation.", "Nobody who screams there is ever heard.",
            "The ghost does not know that it is dead.", "Every candle goes out in the same room.",
        ),
        ("Cellar", "Lantern", "Crypt", "Threshold", "Curse", "Cradle", "Graveyard", "Scream", "Attic", "Shroud"),
    ),
    Genre(
        "Comedy",
        ("bright", "dreamy", "wistful", "tense"),
        (
            "unlucky wedding planner", "mayor's double", "substitute teacher", "failed magician", "hotel doorman",
            "cheese inspector", "zoo night watchman", "professional queuer", "amateur ventriloquist", "tax adviser",
        ),
        (
            "a cheese fair", "a hotel run by its guests", "the slowest parade in the country", "a school for butlers",
            "a caravan park in high season", "an office where nobody knows the product", "a village of twins",
            "a cruise ship with two captains",
        ),
        (
            "A prize goose is mistaken for a judge.", "Everyone is invited to the wrong party.",
            "The speech is read backwards to great applause.", "Three cousins share one suit for three interviews.",
            "A parrot gives away the boss's password.", "The wedding cake is delivered to a boxing match.",
            "A practical joke ends with a marching band in the bath.", "The mayor locks himself in a wardrobe.",
            "Two funny waiters serve the same soup to forty guests.", "A costume party turns into a real trial.",
        ),
        (
            "Each lie needs a sillier one to prop it up.", "The in-laws arrive early, with luggage and a donkey.",
            "Nobody notices that the guest of honour is missing.", "The joke gets out of hand, and then out of town.",
            "A clumsy plan meets an even clumsier rival.", "By Sunday the whole village is in disguise.",
        ),
        ("Parade", "Cousin", "Umbrella", "Goose", "Nephew", "Picnic", "Butler", "Prank", "Holiday", "Landlady"),
    ),
    Genre(
        "Crime",
        ("dark", "tense", "wistful", "bright"),
        (
            "disbarred lawyer", "safecracker out of luck", "homicide detective", "casino croupier", "forger",
            "police stenographer", "getaway driver", "crime reporter", "prison barber", "undercover customs officer",
        ),
        (
            "a harbour under fog", "a casino closed for repairs", "a newsroom about to be sold",
            "a city block of pawnshops", "a police precinct on strike", "a racecourse run by gangsters",
            "a bank between two holidays", "a courthouse with a missing file",
        ),
        (
            "A witness signs the wrong name.", "The vault is found fuller than before the robbery.",
            "A ransom is paid in forged stamps.", "The murder weapon turns up in the evidence room, unused.",
            "An informer is shot before he can name the boss.", "Two detectives arrest each other's suspect.",
            "The heist goes smoothly until the alarm stays silent.", "A corpse is identified by the victim himself.",
            "Stolen diamonds are mailed to the police, one a day.", "The gang's bookkeeper confesses to another crime.",
        ),
        (
            "Half the police are paid by the syndicate.", "Somebody inside the gang is talking.",
            "The killer leaves clues that point to the detective.", "Every alibi in the case is true.",
            "The bribe is larger than the loot.", "The district attorney wants a culprit by Monday.",
        ),
        ("Alibi", "Ledger", "Midnight", "Informer", "Heist", "Verdict", "Ransom", "Blackmail", "Suspect", "Getaway"),
    ),
    Genre(
        "War",
        ("dark", "tense", "wistful", "dreamy"),
        (
            "field telegraphist", "baker turned medic", "bomber navigator", "partisan courier", "army chaplain",
            "deserter", "minesweeper captain", "young lieutenant", "code breaker", "prisoner of war",
        ),
        (
            "a bridge nobody may cross", "a besieged observatory", "a winter line of trenches",
            "a hospital train near the front", "an airfield of patched bombers", "an island garrison cut off from home",
            "a village between two armies", "a camp behind barbed wire",
        ),
        (
            "An order arrives a day too late.", "The guns fall silent for a football match.",
            "The platoon holds a village that is on no map.", "A bomber crew flies home on one engine.",
            "Two soldiers of enemy armies share a shell hole.", "The convoy loses its escort in the night.",
            "A ceasefire is signed, and the shelling goes on.", "The regiment draws lots for the rear guard.",
            "A downed pilot is hidden by the enemy's nurse.", "Tanks are heard where there is no road.",
        ),
        (
            "Ammunition is left for one more attack.", "Of the battalion that marched out a third is left.",
            "Headquarters will not hear of a retreat.", "The enemy is as young and as cold as they are.",
            "Artillery finds their trench each night at nine.", "No soldier knows that the armistice is near.",
        ),
        ("Bridge", "Regiment", "Armistice", "Trench", "Battalion", "Bomber", "Convoy", "Siege", "Bugle", "Frontier"),
    ),
    Genre(
        "Musical",
        ("bright", "dreamy", "wistful", "dark"),
        (
            "chorus understudy", "tram driver with perfect pitch", "brass band leader", "street violinist",
            "retired tap dancer", "lyricist without a tune", "music hall singer", "church organist", "jazz drummer",
            "opera prompter",
        ),
        (
            "a theatre due for demolition", "a market that sings its prices", "a river boat stage",
            "a conservatory during the finals", "a jazz cellar under a bakery", "a provincial opera in debt",
            "a radio studio on the last night of the season", "a ballroom turned cinema",
        ),
        (
            "The leading lady loses her voice on opening night.", "A stolen tune becomes a hit.",
            "The whole street joins in the rehearsal.", "The orchestra plays on while the roof is taken off.",
            "A tap dance is heard on every floor of the hotel.", "The choir refuses to sing the last verse.",
            "A forgotten song is found inside a piano.", "Two singers fight over one microphone and find a harmony.",
            "The premiere is danced in the rain.", "A melody wakes the old conductor.",
        ),
        (
            "The show opens on Friday and has no second act.", "The orchestra has not been paid since spring.",
            "Without the song there is no finale.", "The band breaks up in the middle of a chorus.",
            "Her rival has the part, the dress and the best number.", "The stage will be a car park by autumn.",
        ),
        ("Chorus", "Melody", "Encore", "Overture", "Refrain", "Cabaret", "Rhapsody", "Ballad", "Footlights", "Duet"),
    ),
)  # fmt: skip

MOODS = (
    Mood(
        "bright",
        (
            "It is told with a light hand and a warm heart.", "Sunshine, laughter and good neighbours are never far.",
            "Even the quarrels are merry.", "Everybody is in high spirits, and the wine is good.",
        ),
        (
            "By the end everyone dances, and nobody is left out.",
            "Laughter and a shared breakfast set all of it right.",
            "It ends happily, with a feast in the open air.", "Joy wins, and the bells are rung for all of them.",
            "Friends are made, debts are forgiven, and the sun comes out.",
        ),
        ("Golden", "Merry", "Sunlit", "Lucky", "Shining", "Glorious"),
        (
            "Come as you are.", "The happiest trouble of the year.", "There is room for one more.",
            "Bring your own sunshine.",
        ),
    ),
    Mood(
        "dark",
        (
            "It is a bleak tale, told without mercy.", "Guilt hangs over every room.",
            "Cruelty is common there, and pity is dear.", "Nobody in it is innocent, and all of them know.",
        ),
        (
            "Nobody gets away clean, and the debt is paid in grief.",
            "Fear keeps the last word, and the lamp goes out.",
            "It ends in ashes, with nobody left to mourn.", "Death collects what was promised.",
            "The guilty live, and the good are buried in silence.",
        ),
        ("Black", "Silent", "Last", "Rotten", "Bitter", "Buried"),
        (
            "Nobody comes back.", "Some debts are paid in the dark.", "Do not look behind you.",
            "It was always too late.",
        ),
    ),
    Mood(
        "dreamy",
        (
            "Days drift by as in a half-remembered dream.", "Time runs slowly there, and sometimes backwards.",
            "Everything is seen as if through mist or sleep.", "Memories and wonders mingle, softly and strangely.",
        ),
        (
            "What was real and what was dreamt is left to drift.",
            "The tide takes the question away, softly, as in sleep.",
            "It ends as a dream ends, in the middle of a wonder.", "They wake, and the moon is still in the room.",
            "The vision fades, and something of its magic stays.",
        ),
        ("Blue", "Distant", "Sleeping", "Floating", "Moonlit", "Whispering"),
        (
            "Close your eyes.", "Somewhere between tonight and tomorrow.", "You have dreamt this before.",
            "Stay asleep a while.",
        ),
    ),
    Mood(
        "tense",
        (
            "Every minute counts, and the clock is on the wall.", "Nobody dares to sleep or to turn their back.",
            "Suspicion tightens like a rope.", "One wrong move would give all of them away.",
        ),
        (
            "With an hour to go, one of them must choose.", "Every clock is against them, and every door is watched.",
            "It comes down to ten seconds and a shaking hand.", "The chase ends on a ledge, and one of them lets go.",
            "The deadline strikes, and everything hangs by a wire.",
        ),
        ("Burning", "Hidden", "Second", "Broken", "Final", "Desperate"),
        ("The clock is running.", "Trust no one.", "One hour. One chance.", "Every second counts."),
    ),
    Mood(
        "wistful",
        (
            "It is a quiet story of autumn, regret and things unsaid.",
            "The years have gone by, and so have the friends.",
            "Old photographs say more than anyone there will.", "Rain falls on what used to be a happy place.",
        ),
        (
            "They part at the station and do not look back.", "What is lost stays lost, and is remembered kindly.",
            "It ends with an empty chair and an old song.",
            "Years later one of them comes back, alone, to say goodbye.",
            "The house is sold, and the leaves go on falling.",
        ),
        ("Faded", "Forgotten", "Lonely", "Autumn", "Paper", "Vanished"),
        (
            "What was, and what remained.", "Some goodbyes take a lifetime.", "The year the leaves fell early.",
            "Remember me kindly.",
        ),
    ),
)  # fmt: skip

THEMES = (
    Theme(
        "family",
        (
            "{Her} estranged father stands at the door with a child who needs a mother.",
            "A will forces {her} brothers and sisters to live under one roof again.",
            "{She} learns that {other} is the child {she} gave away.",
            "For the first time in years the whole family sits at one table.",
            "{Her} mother has kept three generations together, and now asks who will.",
        ),
    ),
    Theme(
        "revenge",
        (
            "{She} has waited ten years to make {other} pay for what was done.",
            "An old score has to be settled, and {other} is the last name on the list.",
            "{Her} partner was betrayed, and {she} swears to avenge him.",
            "Revenge is all that keeps {her_} going, until {other} asks for pardon.",
            "The wrong done to {her_} long ago comes back to be repaid in kind.",
        ),
    ),
    Theme(
        "journey",
        (
            "{She} sets out on foot with {other} across a thousand miles of unknown country.",
            "The road leads from one border to the next, and home is further every day.",
            "With a torn map and {other} for a guide, {she} travels to the end of the line.",
            "The voyage was to take a week and lasts for a year.",
            "They cross rivers, deserts and frontiers in search of a place to stay.",
        ),
    ),
    Theme(
        "secret",
        (
            "{She} is not who {she} says, and {other} has found the sealed letter that proves it.",
            "A hidden diary reveals that everybody has been lying since the beginning.",
            "Under a false name {she} guards a secret that {other} would sell.",
            "What nobody was meant to know is written on the back of a photograph.",
            "A disguise has to hold for one more day, and {other} begins to guess.",
        ),
    ),
    Theme(
        "contest",
        (
            "{She} wagers everything against {other}, the champion, and only one can win the prize.",
            "Twelve rivals enter the contest, and {she} is given no chance at all.",
            "A challenge is accepted in public: the loser has to leave for good.",
            "The tournament makes rivals of {her_} and {other}, who trained together.",
            "To win the cup {she} has to beat {other} at a game that {other} invented.",
        ),
    ),
)  # fmt: skip

_WOMEN = (
    "Ada", "Bruna", "Celia", "Dorit", "Elka", "Fenna", "Greta", "Hanne", "Ilse", "Jorun", "Kaia", "Lotte", "Mirela",
    "Nadja", "Orsola", "Petra", "Quilla", "Rosalind", "Sunniva", "Tilda", "Ursel", "Vesna", "Wilma", "Yrsa",
)  # fmt: skip
_MEN = (
    "Anselm", "Bertil", "Casimir", "Dario", "Emeric", "Florin", "Gustav", "Henrik", "Ivo", "Jasper", "Konrad", "Lorenz",
    "Marek", "Nestor", "Oskar", "Piet", "Quentin", "Rasmus", "Silvan", "Tobias", "Ulrich", "Viktor", "Wendel",
    "Yannick",
)  # fmt: skip
_FAMILIES = (
    "Abendroth", "Birkholm", "Castellane", "Dornbusch", "Estermann", "Falkenrath", "Grimsby", "Hallorane", "Iverfeld",
    "Jessamy", "Kestrell", "Lindqvister", "Marchetty", "Novotna", "Ostrander", "Pellworm", "Quist", "Rosenthorn",
    "Sandoval-Pike", "Thistlewood", "Underhay", "Vandermoor", "Wetherlam", "Zabriskow",
)  # fmt: skip

_OPENINGS = (
    "{Name}, {a_trade}, comes to {place} to start again.",
    "In {place}, {name} works as {a_trade} and keeps out of trouble.",
    "For {name}, {a_trade}, {place} was to be a last stop.",
    "{Name} is {a_trade} in {place}, and nobody there knows why.",
    "It begins in {place}, where {name}, {a_trade}, meets {other}.",
    "When {name} returns to {place}, {other}, {a_trade}, is the only one to greet {her_}.",
    "{Place} is where {name}, once {a_trade}, hopes to be left alone.",
    "A single winter in {place} changes the life of {name}, {a_trade}.",
)


def compose_plot(genre: Genre, mood: Mood, theme: Theme, chance: random.Random) -> str:
    """A plot of five to seven sentences: people and place, events of the genre, the theme, the mood, an ending."""
    words = _cast(genre, chance)
    events, turns = chance.choice(((0, 2), (1, 1), (1, 2), (1, 2), (2, 1)))
    middle = [*chance.sample(genre.events, events), *chance.sample(theme.turns, turns)]
    chance.shuffle(middle)
    feeling = [*chance.sample(genre.troubles, chance.randint(0, 1)), chance.choice(mood.airs)]
    told = [chance.choice(_OPENINGS), *middle, *feeling, chance.choice(mood.endings)]
    return " ".join(sentence.format_map(words) for sentence in told)


def _cast(genre: Genre, chance: random.Random) -> dict[str, str]:
    """Words that the sentences leave open: a hero with a trade, somebody else, a place."""
    woman = chance.random() < 0.5
    names, others = (_WOMEN, _MEN) if woman else (_MEN, _WOMEN)
    family, other_family = chance.sample(_FAMILIES, 2)
    name, trade, place = f"{chance.choice(names)} {family}", chance.choice(genre.people), chance.choice(genre.places)
    she, her, her_ = ("she", "her", "her") if woman else ("he", "his", "him")
    return {
        "name": name,
        "Name": name,
        "other": f"{chance.choice(others)} {other_family}",
        "a_trade": _one(trade),
        "place": place,
        "Place": place[0].upper() + place[1:],
        "she": she,
        "She": she.capitalize(),
        "her": her,
        "Her": her.capitalize(),
        "her_": her_,
    }


def _one(noun: str) -> str:
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


_TITLES = (
    "The {adjective} {noun}",
    "The {adjective} {noun}",
    "{adjective} {noun}",
    "{noun} and {another}",
    "The {noun} of {name}",
    "{name}'s {noun}",
    "{a_noun} for {name}",
    "The {noun}",
    "The {another} and the {noun}",
    "Beyond the {adjective} {noun}",
    "One {adjective} {noun}",
)


def compose_title(genre: Genre, mood: Mood, chance: random.Random, taken: set[str]) -> str:
    """A title that is not ``taken`` yet, and is from now on. Where names run out, they get numbers."""
    title = next(title for title in _titles(genre, mood, chance) if title not in taken)
    taken.add(title)
    return title


def _titles(genre: Genre, mood: Mood, chance: random.Random) -> Iterator[str]:
    for attempt in count():
        noun, another = chance.sample(genre.nouns, 2)
        name, adjective = chance.choice((*_WOMEN, *_MEN)), chance.choice(mood.adjectives)
        words = {"noun": noun, "another": another, "name": name, "adjective": adjective, "a_noun": _one(noun)}
        title = chance.choice(_TITLES).format_map(words)
        title = title[0].upper() + title[1:]
        yield title if attempt < 50 else f"{title} {attempt // 50 + 1}"
