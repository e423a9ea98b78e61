from support.hub_contents import hub, no_waiting

__all__ = ["hub", "no_waiting"]
