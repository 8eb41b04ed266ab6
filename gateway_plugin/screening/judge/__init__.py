"""A language model as judge: does an exchange look like a planted fingerprint? (The strong form of SDA.)"""

from gateway_plugin.screening.judge.check import JudgeCheck
from gateway_plugin.screening.judge.prompt import quoted
from gateway_plugin.screening.judge.reply import JudgeGarbageError, Judgement, Label, parse_judgement

__all__ = ["JudgeCheck", "JudgeGarbageError", "Judgement", "Label", "parse_judgement", "quoted"]
