"""A file as verl's own reward files are: helpers, and compute_score."""

import re


def extract_solution(solution_str, method="strict"):
    found = re.findall(r"#### (-?[0-9.,]+)", solution_str)
    return found[-1].replace(",", "") if found else None


def compute_score(solution_str, ground_truth, method="strict", format_score=0.0, score=1.0):
    answer = extract_solution(solution_str=solution_str, method=method)
    if answer is None:
        return 0
    return score if answer == ground_truth else format_score
