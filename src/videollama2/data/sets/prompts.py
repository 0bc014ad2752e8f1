"""Questions for annotations that have none. The paper doesn't print those of its training data; these are ours."""

VIDEO_CAPTION = (
    "Describe the video concisely.",
    "Give a brief description of the video.",
    "What happens in the video?",
    "Summarize the visual content of the video.",
    "Write a short caption for the video.",
)
IMAGE_CAPTION = (
    "Describe the image concisely.",
    "Give a brief description of the image.",
    "What is shown in the image?",
    "Summarize the visual content of the image.",
    "Write a short caption for the image.",
)
IMAGE_DETAIL = ("Describe the image in detail.", "Give a detailed description of everything in the image.")
AUDIO_CAPTION = (
    "Describe the audio.",
    "Give a brief description of the audio.",
    "What can be heard in the audio?",
    "Write a short caption for the audio.",
)
VIDEO_ACTION = ("What is the person doing in the video?", "Identify the action in the video.")
AUDIO_EVENT = ("Identify the sound event in the audio.",)
VIDEO_EVENT = ("Identify the event in the video.",)
