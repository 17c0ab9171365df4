import os

HERE = os.path.dirname(os.path.abspath(__file__))


def helper(text):
    return len(text)


def reward(sample):
    assert sample.completion == sample["completion"] and sample.level == sample.fields["level"]
    if sample.truncated:
        return None
    return helper(sample.completion) + sample.tokens / 10 + (sample.answer == "4") * 100
