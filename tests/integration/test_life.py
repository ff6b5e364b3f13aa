"""The life of a channel, through the real processes."""

from tests.integration.harness.world import World


def test_a_state_changed_in_wazzup_reaches_the_status(world: World) -> None:
    world.account_with_key()
    world.declare("support", "+79865784457")
    listed = world.add("79865784457", state="qridle")
    world.controller().wait_ready()

    status = world.wait_reason("support", "ScanQRCode")
    assert status["state"] == "ScanQRCode"
    assert status["upstreamState"] == "qridle"
    assert status["channelID"] == listed.id
    assert status["plainID"] == "79865784457"
    assert "scan the QR code" in status["action"]["summary"]

    world.simulator.act(listed, "scan")
    status = world.wait_reason("support", "Active", seconds=7)
    assert status["observedGeneration"] == 1
    assert "action" not in status
    assert [each["type"] for each in status["conditions"]] == ["Ready", "Synced"]

    world.api.delete("wazzupchannel", "support")
