// Every word of the page, in English and in Chinese.

const ENGLISH = {
  other: "中文",
  otherLabel: "中文：切换到中文",
  tagline: "Faces in photographs and the expressions they show",
  intakeTitle: "Drop or choose photos",
  intakeHint: "Choose several at once, use the camera, or paste with Ctrl+V (⌘V).",
  choose: "Choose photos",
  chooseMore: "Add photos",
  camera: "Use the camera",
  removeAll: "Remove all",
  dropHere: "Drop the photos anywhere",
  privacyLocal: "Photos stay on this computer: they are read in memory and not kept.",
  privacyRemote: (host) => `Photos go to the server ${host} and nowhere else: they are read in memory and not kept.`,

  imagesTitle: "Photos",
  progress: (done, all) => `${done} of ${all} done`,
  waiting: "waiting",
  reading: "reading …",
  busyWaiting: "the server is busy, waiting …",
  faces: (n) => (n === 0 ? "no face" : n === 1 ? "1 face" : `${n} faces`),
  failed: "could not be read",
  imageLabel: (name, state) => `${name}, ${state}`,
  remove: "Remove photo",
  removed: (name) => `${name} removed`,
  retry: "Try again",
  facesIn: (name) => `Faces in ${name}`,
  faceLabel: (n, answer, confidence) => `Face ${n}: ${answer}${confidence ? `, ${confidence}` : ""}`,
  caption: (name, width, height, faces) => `${name} · ${width} × ${height} · ${faces}`,
  imageAlt: (name) => `The photo ${name}`,
  told: (name, faces, answer) => `${name}: ${faces}${answer ? `. ${answer}` : ""}`,
  toldFailed: (name, why) => `${name}: ${why}`,

  faceTitle: (n, all) => `Face ${n} of ${all}`,
  faceTitleNone: "Face",
  previousFace: "Previous face",
  nextFace: "Next face",
  faceHintMany: "Click a face, or choose with the arrow keys.",
  faceHintNone: "No face is chosen.",
  confidence: (p) => `${p} confidence`,
  withheld: (name, p) => `Not sure enough to answer. Likeliest: ${name}, ${p}.`,

  attentionTitle: "Where the network attends",
  none: "Face",
  head: (n) => `Head ${n}`,
  both: (n) => (n === 2 ? "Both" : "All"),
  opacity: "Opacity on the photo",
  attentionNote: (ranges) =>
    `Each map is colored from its smallest value (dark) to its largest (bright): ${ranges}. “Both” is the larger of the two, place by place.`,
  attentionEven: "These maps are almost even: they hardly say where the network looks.",
  range: (head, low, high) => `${head} ${low} to ${high}`,

  precision: "Answer only where this share was right",
  precisionOff: "Answer always",
  precisionHint: "Measured on validation images. Other faces are “uncertain” and keep their probabilities.",
  prior: "How common the expressions are in your photos",
  priorTraining: "As in the training images",
  priorUniform: "All alike",
  priorServer: (shares) => `As this server expects: ${shares}`,
  priorHint: "With “all alike”, rare expressions are named more often, and common ones, such as neutral, less often.",
  download: "Download",
  saveJson: "JSON",
  saveCsv: "CSV",
  saveImage: "Annotated photo",
  downloadHint: "JSON and CSV hold all photos, as “ddamfn predict” writes them; the photo is the one that is shown.",
  saveFailed: "The browser could not make the photo; it may be too large for it.",
  saveImageUnshown: "The browser cannot show this photo, so it cannot annotate it. “ddamfn predict --annotate” can.",

  noFaceTitle: "No face found",
  noFaceText: "Faces that are very small, turned far away or mostly covered are not found. Try a larger or clearer photo.",
  unshown: "It was read, but your browser cannot show it. The boxes stand where the faces are in the upright photo.",
  emptyTitle: "Empty file",
  emptyText: "The file has 0 bytes.",
  unreadableTitle: "Not an image that can be read",
  unreadableText: "The file is damaged, or of another kind. JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP and TIFF are read.",
  tooLargeTitle: "Too large",
  tooLargeText: (megabytes, megapixels) => `This server reads at most ${megabytes} MB and ${megapixels} megapixels per photo.`,
  busyTitle: "The server is busy",
  busyText: "Its queue stayed full. Try again in a moment.",
  startingTitle: "The server is starting",
  startingText: "Try again in a few seconds.",
  goneTitle: "The server does not answer",
  goneText: "It may have been stopped. Start it again with “ddamfn serve”, then try again. Your photos are still here.",
  movedTitle: "The file cannot be opened",
  movedText: "It was moved, changed or removed since it was chosen. Choose it again.",
  tokenNeededTitle: "A token is needed",
  tokenNeededText: "Try again to enter it.",
  brokenTitle: "The connection broke",
  brokenText: "The server is there, but did not receive the whole photo. Try again.",
  refusedTitle: "The server could not answer",
  refusedText: "Try again; if it happens once more, the server’s own messages may say why.",
  nothingPasted: "What was pasted holds no image.",

  cameraTitle: "Camera",
  cameraConsent:
    "After you start the camera, its view is shown here and goes nowhere. Only the photo that you take is sent to the server, and it is not kept. The camera stops when you take a photo or close this window.",
  cameraDevice: "Camera",
  cameraStart: "Start camera",
  cameraTake: "Take photo",
  cameraClose: "Close",
  cameraStop: "Stop camera",
  cameraView: "Live view of the camera",
  cameraRunning: "The camera is on.",
  cameraStopped: "The camera is off.",
  cameraDenied: "The browser was told not to use the camera. Allow it in the address bar, then start again.",
  cameraMissing: "No camera was found.",
  cameraInsecure: "Browsers give the camera only to pages from this computer or over HTTPS.",
  cameraBroken: "The camera could not be started. Another program may be using it.",

  tokenTitle: "Token",
  tokenText: "This server answers only who has its token. It stays in this page and is forgotten when you leave.",
  tokenWrong: "That token was not accepted.",
  tokenLabel: "Token",
  tokenSend: "Continue",
  cancel: "Cancel",

  isTitle: "What it is",
  isText:
    "It finds faces and tells which expression a face shows, as annotators named it, with a DDAMFN network. It does not know what a person feels: one expression at one moment says little about that.",
  notTitle: "What it is not for",
  notText:
    "Do not use it to decide about people. In the EU, Article 5(1)(f) of the AI Act forbids systems that infer emotions at work and in education, except for medical or safety reasons.",
  weightsTitle: "The weights",
  weights: (name, share, n, dataset) => `${name}: right on ${share} of ${n} test images of ${dataset}.`,
  weightsPlain: (name) => `${name}: not measured.`,
  weightsWeak: (list) => `Rarely recognized there: ${list}.`,
  share: (name, p) => `${name} (${p})`,
  join: ", ",
  expressions: {
    neutral: "neutral", happiness: "happiness", surprise: "surprise", sadness: "sadness", anger: "anger",
    disgust: "disgust", fear: "fear", contempt: "contempt", uncertain: "uncertain",
  },
};

const CHINESE = {
  other: "English",
  otherLabel: "English: switch to English",
  tagline: "找出照片中的人脸及其呈现的表情",
  intakeTitle: "拖入或选择图片",
  intakeHint: "可一次选择多张图片，也可使用摄像头，或用 Ctrl+V（⌘V）粘贴。",
  choose: "选择图片",
  chooseMore: "添加图片",
  camera: "使用摄像头",
  removeAll: "全部移除",
  dropHere: "松开即可添加图片",
  privacyLocal: "图片不会离开这台电脑：只在内存中读取，不会保存。",
  privacyRemote: (host) => `图片只发送到服务器 ${host}：只在内存中读取，不会保存。`,

  imagesTitle: "图片",
  progress: (done, all) => `已完成 ${done} / ${all}`,
  waiting: "等待中",
  reading: "读取中……",
  busyWaiting: "服务器繁忙，等待中……",
  faces: (n) => (n === 0 ? "没有人脸" : `${n} 张人脸`),
  failed: "无法读取",
  imageLabel: (name, state) => `${name}，${state}`,
  remove: "移除图片",
  removed: (name) => `已移除 ${name}`,
  retry: "重试",
  facesIn: (name) => `${name} 中的人脸`,
  faceLabel: (n, answer, confidence) => `人脸 ${n}：${answer}${confidence ? `，${confidence}` : ""}`,
  caption: (name, width, height, faces) => `${name} · ${width} × ${height} · ${faces}`,
  imageAlt: (name) => `图片 ${name}`,
  told: (name, faces, answer) => `${name}：${faces}${answer ? `。${answer}` : ""}`,
  toldFailed: (name, why) => `${name}：${why}`,

  faceTitle: (n, all) => `人脸 ${n} / ${all}`,
  faceTitleNone: "人脸",
  previousFace: "上一张人脸",
  nextFace: "下一张人脸",
  faceHintMany: "点击人脸，或用方向键选择。",
  faceHintNone: "尚未选择人脸。",
  confidence: (p) => `置信度 ${p}`,
  withheld: (name, p) => `把握不足，不作回答。最可能：${name}，${p}。`,

  attentionTitle: "网络关注的位置",
  none: "人脸",
  head: (n) => `头 ${n}`,
  both: (n) => (n === 2 ? "两者" : "全部"),
  opacity: "图片上的不透明度",
  attentionNote: (ranges) =>
    `每张图的颜色从其最小值（暗）到最大值（亮）：${ranges}。“两者”为逐点取较大值。`,
  attentionEven: "这些图几乎是均匀的：难以据此判断网络关注何处。",
  range: (head, low, high) => `${head}：${low} 至 ${high}`,

  precision: "仅在正确率达到此比例时回答",
  precisionOff: "总是回答",
  precisionHint: "该比例在验证图片上测得。其余人脸标为“不确定”，并保留各项概率。",
  prior: "您的图片中各表情有多常见",
  priorTraining: "与训练图片相同",
  priorUniform: "各表情同样常见",
  priorServer: (shares) => `按此服务器的设定：${shares}`,
  priorHint: "选“各表情同样常见”时，少见的表情会更常被认出，常见的表情（如中性）则相应减少。",
  download: "下载",
  saveJson: "JSON",
  saveCsv: "CSV",
  saveImage: "标注图片",
  downloadHint: "JSON 和 CSV 包含所有图片，格式与“ddamfn predict”相同；标注图片为当前显示的图片。",
  saveFailed: "浏览器无法生成该图片，可能尺寸过大。",
  saveImageUnshown: "浏览器无法显示该图片，因此无法标注。可使用“ddamfn predict --annotate”。",

  noFaceTitle: "未找到人脸",
  noFaceText: "过小、侧转过大或大部分被遮挡的人脸无法找到。请换一张更大或更清晰的图片。",
  unshown: "已读取，但浏览器无法显示该图片。方框为人脸在摆正后图片中的位置。",
  emptyTitle: "空文件",
  emptyText: "该文件大小为 0 字节。",
  unreadableTitle: "无法读取的图片",
  unreadableText: "文件已损坏或不是图片。可读取 JPEG、PNG、WebP、HEIC、AVIF、GIF、BMP 和 TIFF。",
  tooLargeTitle: "图片过大",
  tooLargeText: (megabytes, megapixels) => `此服务器每张图片最多读取 ${megabytes} MB、${megapixels} 百万像素。`,
  busyTitle: "服务器繁忙",
  busyText: "队列一直已满，请稍后重试。",
  startingTitle: "服务器正在启动",
  startingText: "请几秒后重试。",
  goneTitle: "服务器没有响应",
  goneText: "服务器可能已停止。请用“ddamfn serve”重新启动，然后重试。您的图片仍在此处。",
  movedTitle: "无法打开文件",
  movedText: "文件在选择之后被移动、更改或删除。请重新选择。",
  tokenNeededTitle: "需要令牌",
  tokenNeededText: "请重试并输入令牌。",
  brokenTitle: "连接中断",
  brokenText: "服务器仍在运行，但没有收到完整的图片。请重试。",
  refusedTitle: "服务器无法回答",
  refusedText: "请重试；如再次发生，请查看服务器自身的消息。",
  nothingPasted: "粘贴的内容中没有图片。",

  cameraTitle: "摄像头",
  cameraConsent:
    "启动后，摄像头画面只显示在此处，不会发送到任何地方。只有您拍下的照片会发送到服务器，且不会保存。拍照或关闭此窗口后，摄像头即停止。",
  cameraDevice: "摄像头",
  cameraStart: "启动摄像头",
  cameraTake: "拍照",
  cameraClose: "关闭",
  cameraStop: "停止摄像头",
  cameraView: "摄像头实时画面",
  cameraRunning: "摄像头已开启。",
  cameraStopped: "摄像头已关闭。",
  cameraDenied: "浏览器被禁止使用摄像头。请在地址栏中允许，然后重新启动。",
  cameraMissing: "未找到摄像头。",
  cameraInsecure: "浏览器仅允许本机页面或 HTTPS 页面使用摄像头。",
  cameraBroken: "无法启动摄像头，可能正被其他程序使用。",

  tokenTitle: "令牌",
  tokenText: "此服务器只回答持有令牌的人。令牌只保存在本页面中，离开后即被遗忘。",
  tokenWrong: "该令牌未被接受。",
  tokenLabel: "令牌",
  tokenSend: "继续",
  cancel: "取消",

  isTitle: "它是什么",
  isText:
    "它用 DDAMFN 网络找出人脸，并判断人脸呈现的是标注者所命名的哪种表情。它不知道一个人的感受：某一刻的一个表情说明不了多少。",
  notTitle: "不可用于何处",
  notText:
    "请勿用它对人作出决定。在欧盟，《人工智能法》第 5 条第 1 款 (f) 项禁止在工作场所和教育机构使用推断情绪的系统，医疗或安全原因除外。",
  weightsTitle: "权重",
  weights: (name, share, n, dataset) => `${name}：在 ${dataset} 的 ${n} 张测试图片中，正确率为 ${share}。`,
  weightsPlain: (name) => `${name}：未测量。`,
  weightsWeak: (list) => `在其中很少被识别出的表情：${list}。`,
  share: (name, p) => `${name}（${p}）`,
  join: "、",
  expressions: {
    neutral: "中性", happiness: "高兴", surprise: "惊讶", sadness: "悲伤", anger: "愤怒",
    disgust: "厌恶", fear: "恐惧", contempt: "轻蔑", uncertain: "不确定",
  },
};

const LANGUAGES = { en: ENGLISH, zh: CHINESE };
const TAGS = { en: "en", zh: "zh-CN" };
let current = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";

/** Returns a text by its key; a text with gaps takes their values. */
export function text(key, ...values) {
  const found = LANGUAGES[current][key];
  return typeof found === "function" ? found(...values) : found;
}

/** Returns an expression's name in the page's language; a name that is not known stays as it is. */
export function expressionName(name) {
  return LANGUAGES[current].expressions[name] ?? name;
}

/** Returns a probability as a percentage that never claims more certainty than there is. */
export function percent(value, digits = 1) {
  const told = (p) => new Intl.NumberFormat(TAGS[current], { style: "percent", maximumFractionDigits: digits }).format(p);
  const step = 10 ** -(digits + 2);
  if (value > 0 && value < step / 2) return `<${told(step)}`;
  if (value < 1 && value >= 1 - step / 2) return `>${told(1 - step)}`;
  return told(value);
}

/** Returns a number with the language's own grouping, to a tenth. */
export function count(value) {
  return new Intl.NumberFormat(TAGS[current], { maximumFractionDigits: 1 }).format(value);
}

/** Writes the title, and every text of the document that stands under a `data-text` or `data-label`. */
export function translate() {
  document.title = `ddamfn · ${text("tagline")}`;
  document.documentElement.lang = TAGS[current];
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", text(node.dataset.label));
}

/** Goes over to the other language. */
export function switchLanguage() {
  current = current === "en" ? "zh" : "en";
}
