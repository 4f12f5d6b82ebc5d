"""Names for runs that were given none: an adjective and an animal, easy to say and to remember."""

import random

_ADJECTIVES = (
    """
    able agile amber ample apt azure bold brave brisk bright broad calm candid casual cheery civil clean clear
    clever cobalt cosy crisp curious daring deft dapper eager early earnest easy elder fair fancy fast fine firm
    fleet fond frank free fresh gentle giant glad golden good grand green happy hardy hazel honest humble ideal
    ivory jolly keen kind large late lean light lively loyal lucky lunar magic major mellow merry mild mint
    modest neat nimble noble oaken olive opal patient plain polite prime proud pure quick quiet rapid ready
    regal robust rosy royal rustic sage sandy scarlet serene sharp shiny silent silver simple sincere sleek slim
    smart smooth snug social solid spry steady still stout sturdy subtle sunny swift tall tame tawny tender tidy
    topaz tranquil true trusty upbeat valiant velvet vivid warm wild wise witty young zesty
    """
).split()
_ANIMALS = (
    """
    adder albatross alpaca ant antelope avocet badger barbel bat bear beaver bee beetle bison bittern boar bream
    bustard buzzard camel carp cat chamois chough cicada civet cod condor coot cormorant crab crane cricket crow
    cuckoo curlew dace deer dingo dipper dog dolphin donkey dormouse dove dragonfly duck dunlin eagle eel egret
    eider elk emu falcon ferret finch firefly fox frog gannet gazelle gecko gibbon goat goose grebe grouse gull
    hamster hare harrier hawk hedgehog heron hoopoe hornet horse ibex ibis jackdaw jay kestrel kingfisher kite
    koala lapwing lark lemming lemur leopard linnet lizard llama lobster lynx magpie mallard marlin marmot
    marten martin mink mole moose moth mouse mule newt nightjar nuthatch octopus okapi oriole osprey otter owl
    ox oyster panda parrot partridge pelican penguin perch petrel pheasant pigeon pike pipit plover polecat pony
    puffin puma quail rabbit raven ray reindeer robin roebuck rook ruff salmon seal serin shark sheep shrew
    shrike skua skylark sloth snail snipe sparrow spoonbill squid squirrel stag starling stoat stork sturgeon
    swallow swan swift tapir teal tern thrush tiger tit toad trout tuna turtle viper vole wagtail walrus warbler
    wasp weasel whale wigeon wolf wombat woodcock wren yak zander zebra
    """
).split()


def random_name() -> str:
    """A name such as `swift-heron`; one of some twenty-five thousand, so not unique."""
    return f"{random.choice(_ADJECTIVES)}-{random.choice(_ANIMALS)}"
