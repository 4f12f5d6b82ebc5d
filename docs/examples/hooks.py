"""Functions that are called when a run reaches a state."""

from headrace import flow

told = []


def tell(flow, flow_run, state):
    told.append(f"{flow_run.name}: {state.name}")


@flow(name="nightly", flow_run_name="nightly-{day}", on_completion=[tell])
def nightly(day: str) -> None:
    return None


if __name__ == "__main__":
    nightly("monday")
    assert told == ["nightly-monday: Completed"]
