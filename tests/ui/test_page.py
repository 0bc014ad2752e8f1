"""The page in a browser with our own server: what a user does, and what the page then shows."""

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import TOKENS, WORD, Server, Visit, visiting

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>&lt;b&gt;'


def streamed(*events: Any) -> dict[str, Any]:
    """A streamed response for `route.fulfill`."""
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    return {"status": 200, "content_type": "text/event-stream", "body": body}


def test_upload_ask_receipt_follow_up(visit: Visit, clip: Path) -> None:
    page = visit.page
    visit.choose(clip)
    first = visit.ask("What do you see and hear?")
    assert first.locator(".words").inner_text() == WORD * TOKENS
    assert visit.pictures(first, 4).count() == 4, "one picture for each frame that the model saw"
    assert "Saw 4 of 40 frames" in first.locator("summary").first.inner_text()
    assert "Heard 4.0 s" in first.locator("summary").first.inner_text()
    assert first.locator(".track .window").count() == 1
    colours = visit.pictures(first, 4).evaluate_all(
        "all => all.map(c => [...c.getContext('2d').getImageData(c.width - 4, 4, 1, 1).data].slice(0, 3))"
    )
    assert len({tuple(c) for c in colours}) == 4, "the pictures are those of four different times"
    assert page.locator("#announce").inner_text().startswith("Answer:"), "a screen reader is told"

    second = visit.ask("And then?")
    assert len(visit.asked) == 2 and visit.uploads == 1, "the clip is not sent again"
    messages = visit.asked[1]["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert messages[0] == visit.asked[0]["messages"][0] and messages[2]["content"] == "And then?"
    assert visit.pictures(second, 4).count() == 4
    assert first.locator(".receipt[open]").count() == 0, "an older receipt is folded away"
    first.locator("summary").first.click()
    first.locator(".frames button").nth(2).click()
    page.wait_for_function("Math.abs(document.querySelector('#screen video').currentTime - 2.5) < 0.3")
    assert not visit.complaints


def test_the_answer_streams_and_can_be_stopped(visit: Visit, server: Server, clip: Path) -> None:
    page = visit.page
    visit.choose(clip)
    server.pause[0] = 0.5
    page.fill("#question", "Go on and on")
    page.press("#question", "Enter")
    page.wait_for_selector(".answer[aria-busy] .words")
    early = page.locator(".words").inner_text()
    page.wait_for_function("early => document.querySelector('.words').textContent.length > early.length", arg=early)
    page.click("#stop")
    page.wait_for_selector(".ending")
    assert page.locator(".ending").inner_text() == "Stopped."
    server.pause[0] = 0.0
    assert page.locator("#ask").is_visible() and not page.locator("#stop").is_visible()
    visit.ask("And now?")
    assert visit.asked[1]["messages"][1]["content"], "what was said until then is part of the conversation"


def test_range_and_audio_settings_are_sent(visit: Visit, clip: Path) -> None:
    page = visit.page
    visit.choose(clip)
    page.wait_for_selector(".with-wave")
    for _ in range(5):
        page.press("#start", "ArrowRight")
    for _ in range(10):
        page.press("#end", "ArrowLeft")
    start, end = (float(page.input_value(name)) for name in ("#start", "#end"))
    assert 0.4 <= start <= 0.6 and 2.9 <= end <= 3.1
    assert page.get_attribute("#start", "aria-valuetext") == "0.5 seconds"
    page.uncheck("#sound")
    page.select_option("#protocol", "full")
    turn = visit.ask("What is this?")
    body = visit.asked[0]
    part = body["messages"][0]["content"][0]
    assert (part["start"], part["sound"], body["protocol"]) == (start, False, "full")
    assert part["end"] == pytest.approx(end)
    assert "Audio was off" in turn.locator("summary").first.inner_text()
    assert turn.locator(".track .asked").count() == 1 and turn.locator(".track .window").count() == 0
    page.check("#sound")
    assert "new conversation" in page.locator("#hint").inner_text()
    visit.ask("And its sound?")
    assert len(visit.asked[1]["messages"]) == 1, "other settings begin another conversation"
    page.click("#whole")
    assert page.locator("#range").inner_text() == "Whole clip, 4.0 s"


def test_a_broken_file_is_explained(visit: Visit) -> None:
    visit.choose({"name": "broken.mp4", "mimeType": "video/mp4", "buffer": b"no clip at all" * 100})
    assert visit.page.locator("#trim-note").is_visible()
    turn = visit.ask("What is this?")
    error = turn.locator('.error[role="alert"]')
    assert "could not be read" in error.inner_text() and "MP4" in error.inner_text()
    assert visit.page.input_value("#question") == "What is this?", "the question can be asked again"


def test_errors_are_explained_and_the_page_still_works(visit: Visit, clip: Path) -> None:
    page = visit.page
    visit.choose(clip)

    def said(**response: Any) -> str:
        page.route("**/completions", lambda route: route.fulfill(**response) if response else route.abort())
        error = visit.ask("What is this?").locator(".error").inner_text()
        page.unroute("**/completions")
        page.wait_for_selector("#ask:not([disabled])")
        return str(error)

    busy = said(
        status=429, headers={"Retry-After": "7"}, json={"error": {"code": "queue_full", "message": "many wait"}}
    )
    assert all(words in busy for words in ("The server is busy", "Try again in 7 seconds.", "many wait"))
    assert "The server reported an error" in said(status=502, body="<h1>Bad Gateway</h1>")
    assert "The server can’t be reached" in said()
    broken = streamed({"choices": [{"delta": {"content": "A dog"}}]}, {"error": {"message": ".", "status": 504}})
    assert "It took too long" in said(**broken)
    assert visit.uploads == 1
    assert "Ask again" in said(status=404, json={"error": {"code": "file_not_found", "message": "no such file"}})
    assert visit.uploads == 2, "a clip that has expired is sent again"
    assert visit.ask("Again?").locator(".words").count() == 1


def test_all_text_stays_text(visit: Visit, clip: Path) -> None:
    page = visit.page
    receipt = {
        "model": HOSTILE, "protocol": HOSTILE, "device": HOSTILE, "dtype": HOSTILE, "prompt_tokens": 1,
        "generated_tokens": 1, "notes": [HOSTILE], "audio": None,
        "video": {"kind": "video", "frames_total": 9, "frames_used": 1, "times_seconds": [1.0], "tokens": 3,
                  "range_seconds": None, "notes": [HOSTILE]},
    }  # fmt: skip
    answer = streamed({"choices": [{"delta": {"content": HOSTILE}}]}, {"choices": [], "receipt": receipt})
    page.route("**/completions", lambda route: route.fulfill(**answer))
    visit.choose({"name": f"{HOSTILE}.mp4".replace("/", "."), "mimeType": "video/mp4", "buffer": clip.read_bytes()})
    turn = visit.ask(HOSTILE)
    assert turn.locator(".words").inner_text() == HOSTILE
    assert HOSTILE in turn.locator(".asked").inner_text() and HOSTILE in turn.locator(".notes").inner_text()
    refused = {"error": {"code": HOSTILE, "message": HOSTILE}}
    page.unroute("**/completions")
    page.route("**/completions", lambda route: route.fulfill(status=400, json=refused))
    assert HOSTILE in visit.ask(HOSTILE).locator(".error").inner_text()
    assert page.locator("#turns img, #turns script, #stage img").count() == 0 and page.title() == "VideoLLaMA 2"


def test_a_recording_is_a_clip(visit: Visit) -> None:
    page = visit.page
    page.click("#record")
    page.wait_for_selector("#recorder-go:not([disabled])")
    page.click("#recorder-go")
    page.wait_for_timeout(1200)
    page.click("#recorder-go")
    page.wait_for_selector("#ask:not([disabled])")
    assert page.locator("#name").inner_text().startswith("recording.")
    page.wait_for_selector("#film canvas")
    turn = visit.ask("What was recorded?")
    assert turn.locator(".error").count() == 0 and visit.pictures(turn, 4).count() == 4


def test_images_and_audio_files_are_clips_too(visit: Visit, media: Path) -> None:
    visit.choose(media / "still.png")
    still = visit.ask("What is this?")
    assert "Saw the image" in still.inner_text() and visit.pictures(still, 1).count() == 1
    assert still.locator(".track").count() == 0 and visit.page.locator("#sound").is_disabled()
    visit.choose(media / "tone.wav")
    tone = visit.ask("What is this?")
    assert "No video" in tone.inner_text() and "Heard 1.5 s" in tone.inner_text()
    assert tone.locator(".track .window").count() == 1 and tone.locator(".track .wave .heard[d]").count() == 1


def test_no_question_is_lost_between_two_clips(visit: Visit, media: Path) -> None:
    page = visit.page
    visit.choose(media / "still.png")
    page.route("**/v1/files", lambda route: None)  # an upload that takes long
    page.set_input_files("#file", media / "tone.wav")
    assert page.locator("#ask").is_disabled() and page.locator(".chip").first.is_disabled()
    assert page.locator("#hint").inner_text() == "Uploading the clip…"


def test_the_clip_chosen_last_counts(visit: Visit) -> None:
    """The first of two, a video, takes longer to open than the second, an image."""
    visit.page.evaluate(
        """async () => {
            const video = new File([await (await fetch("ui/example.mp4")).blob()], "first.mp4", { type: "video/mp4" });
            const drawn = new OffscreenCanvas(8, 8);
            drawn.getContext("2d").fillRect(0, 0, 8, 8);
            const image = new File([await drawn.convertToBlob()], "second.png", { type: "image/png" });
            for (const file of [video, image]) {
                const dataTransfer = new DataTransfer();
                dataTransfer.items.add(file);
                document.dispatchEvent(new DragEvent("drop", { dataTransfer }));
            }
        }"""
    )
    visit.page.wait_for_selector("#ask:not([disabled])")
    visit.page.wait_for_timeout(1000)
    assert visit.page.locator("#name").inner_text() == "second.png"
    assert visit.page.locator("#screen img").count() == 1 and visit.page.locator("#screen video").count() == 0
    assert "second.png" in visit.ask("What is this?").locator(".about").inner_text()


def test_the_example_needs_no_file(visit: Visit) -> None:
    visit.page.click("#example")
    visit.page.wait_for_selector("#ask:not([disabled])")
    visit.page.locator(".chip").first.click()
    visit.page.wait_for_selector(".receipt")


def test_nothing_is_loaded_from_elsewhere(visit: Visit, server: Server, clip: Path) -> None:
    visit.choose(clip)
    visit.ask("What is this?")
    assert all(each.startswith((server.url, f"blob:{server.url}")) for each in visit.requests)
    policy = visit.page.request.get(server.url).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    refused = visit.page.evaluate("() => { try { document.body.innerHTML = '<b>x</b>' } catch (e) { return e.name } }")
    assert refused == "TypeError", "the browser itself refuses to make HTML of text"


def test_phone_dark_and_keyboard(browser: Any, server: Server, clip: Path) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "has_touch": True}
    with visiting(browser, server, **phone) as visit:
        page = visit.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.get_attribute("#theme", "aria-pressed") == "true"
        page.locator("#theme").press("Enter")
        assert page.get_attribute("#theme", "aria-pressed") == "false"
        page.reload()
        assert page.evaluate("document.documentElement.dataset.theme") == "light", "it is remembered"
        page.wait_for_selector('#server[data-state="well"]')
        visit.choose(clip)
        visit.ask("What is this?")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing hangs over the edge"
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, input, select, textarea, video, summary')]
            .filter(each => !each.getAttribute('aria-label') && !each.labels?.length && !each.textContent.trim())
            .map(each => each.outerHTML)"""
        )
        assert not nameless, "everything that can be used has a name"
