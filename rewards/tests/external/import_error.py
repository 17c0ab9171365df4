import no_such_module_at_all


def reward(sample):
    return 1
