"""Distillation with the prompt in the loop: train a student, win back what compression cost, evaluate what ships.

An extra, ``pip install edgesam-export[distill]``; nothing but the command line imports this package.
Source of the method: Zhou, Li, Loy, Dai 2023, "EdgeSAM: Prompt-In-the-Loop Distillation for SAM",
https://arxiv.org/abs/2312.06660, section 3.
"""
