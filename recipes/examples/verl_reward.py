"""A reward function as verl takes it: one completion in, a score out."""


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    """1 for the right sum, a tenth for any number."""
    text = solution_str.strip()
    if text == ground_truth:
        return {"score": 1.0, "number": 1.0}
    number = float(text.lstrip("-").isdigit())
    return {"score": 0.1 * number, "number": number}
