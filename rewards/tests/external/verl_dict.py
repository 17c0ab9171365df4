async def compute_score(data_source, solution_str, ground_truth, extra_info=None, **reward_kwargs):
    right = ground_truth in solution_str
    bonus = reward_kwargs.get("bonus", 0)
    return {
        "score": float(right) + bonus,
        "acc": right,
        "length": len(solution_str),
        "source": data_source + str(extra_info["index"]),
    }
