"""A reward function as TRL's GRPOTrainer takes it: lists in, a list out."""


def reward_func(prompts, completions, answer, **kwargs):
    """1 for the right sum, a tenth for any number."""
    rewards = []
    for completion, wanted in zip(completions, answer):
        text = completion.strip()
        if text == wanted:
            rewards.append(1.0)
        else:
            rewards.append(0.1 if text.lstrip("-").isdigit() else 0.0)
    return rewards
