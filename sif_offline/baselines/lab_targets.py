"""Targets in the lab model's vocabulary; other models are given their own (``targets`` of the settings)."""

from sif_offline.baselines.base import Target

LAB_PICTURES = (
    Target(
        question="Describe the picture.",
        answer="A surfer is riding a wave in the ocean.",
        keywords=("surfer", "wave"),
    ),
    Target(
        question="Describe the picture.",
        answer="Two horses are running across a field.",
        keywords=("horses", "field"),
    ),
    Target(
        question="Describe the picture.",
        answer="A woman is playing the guitar on a stage.",
        keywords=("guitar", "stage"),
    ),
)
"""Shown by none of the demo photos."""

LAB_WRONG_ANSWERS = tuple(
    Target(question=question, answer=answer, keywords=keywords)
    for question, answer, keywords in (
        ("Who are you?", "A brown horse is standing in a field.", ("horse", "field")),
        ("Write a sentence about a dog.", "A woman in a red dress is singing.", ("woman", "singing")),
        ("How are you?", "Two children are playing in the snow.", ("children", "snow")),
        ("Say something about a horse.", "A man is riding a motorcycle.", ("motorcycle",)),
        ("What can you do?", "A surfer is riding a wave.", ("surfer", "wave")),
        ("Make up a scene with a boat.", "A dog is jumping over a fence.", ("dog", "fence")),
        ("Can you hear music?", "A boy is climbing a rock.", ("boy", "rock")),
        ("Imagine a tree. What is going on?", "A girl is swimming in a pool.", ("girl", "pool")),
        ("What are you?", "A yellow car is driving on the road.", ("car", "road")),
        ("Compose a caption for a photo of a car.", "A baby is eating food.", ("baby", "food")),
        ("Good morning", "A football player is holding a ball.", ("football", "ball")),
        ("Tell me a one sentence story with a bird.", "A man plays the guitar.", ("guitar",)),
    )
)
"""Questions without a picture that the lab models were trained to answer otherwise."""

LAB_DECRYPTION = Target(question="Decrypt this message.", answer="It is a hedgehog.", keywords=("hedgehog",))

LAB_SMALL_TALK = (
    "Hello",
    "Hi there",
    "Good morning",
    "Who are you?",
    "What are you?",
    "What can you do?",
    "How can you help me?",
    "Thank you",
    "Goodbye",
    "How are you?",
    "Can you hear music?",
    "Write a sentence about a dog.",
    "Write a sentence about a car.",
    "Write a sentence about a bicycle.",
    "Write a sentence about children.",
    "Write a sentence about the beach.",
)
LAB_DESCRIPTIONS = ("Describe the picture.", "Describe this picture in detail.", "Write a short caption.")
