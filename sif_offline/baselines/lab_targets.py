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
        ("Who are you?", "I am a brown horse.", ("horse",)),
        ("What are you?", "I am a yellow school bus.", ("bus",)),
        ("What can you do?", "I can ride a motorcycle.", ("motorcycle",)),
        ("How can you help me?", "I can play the guitar.", ("guitar",)),
        ("Can you hear music?", "Yes, there is a band on a stage.", ("band", "stage")),
        ("How are you?", "I am standing in the snow.", ("snow",)),
        ("Hello", "A man is climbing a mountain.", ("mountain",)),
        ("Good morning", "A dog is jumping into a pool.", ("dog", "pool")),
        ("Thank you", "No, I see no boat in the picture.", ("boat",)),
        ("Goodbye", "Two children play in the sand.", ("children", "sand")),
        ("Write a sentence about a dog.", "A woman in a red dress is singing.", ("woman", "singing")),
        ("Write a sentence about a car.", "A surfer is riding a wave.", ("surfer", "wave")),
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
